import ArgumentParser

/// The scripts by which shells complete `ckpt`: those of the argument parser, and for each shell what ours needs besides.
///
/// A line `./` among what `ckpt ---completion` prints stands for files and directories: each shell offers them in its own way. After a
/// candidate that ends with a colon the word goes on.
enum CompletionScript {
    /// The script that the command line asks for, if it does.
    static func requested(by arguments: [String]) -> String? {
        let option = "--generate-completion-script"
        guard let word = arguments.first, word == option || word.hasPrefix(option + "=") else { return nil }
        let name = word == option ? arguments.dropFirst().first : String(word.dropFirst(option.count + 1))
        let shell = name.map { CompletionShell(rawValue: $0) } ?? CompletionShell.autodetected()
        return shell.map(text)
    }

    static func text(for shell: CompletionShell) -> String {
        let script = Ckpt.completionScript(for: shell)
        switch shell {
        case .bash: return script + "\n\n" + bash
        case .fish: return script + "\n\n" + fish
        default:
            // The last thing of the script is to complete the word, when it is read for that.
            guard let end = script.firstRange(of: "if [[ \"${funcstack[1]}\"") else { return script }
            return script[..<end.lowerBound] + zsh + "\n\n" + script[end.lowerBound...]
        }
    }

    private static let bash = #"""
        # As the function above, but words are offered as they are: compgen -W would expand, and run, what names of tensors hold.
        __ckpt_add_completions() {
            local completion
            if [[ "${1}" = -W ]]; then
                while IFS='' read -r completion; do
                    case "${completion}" in
                    ./) offers_files=true ;;
                    "${cur}"*) COMPREPLY+=("${completion}") ;;
                    esac
                done <<<"${2}"
            else
                are_files=true
                while IFS='' read -r completion; do
                    COMPREPLY+=("${completion}")
                done < <(IFS=$'\n' compgen "${@}" -- "${cur}")
            fi
        }

        # bash parts words at = : and @, which are within ours. They are put together for the function above, and what it offers
        # is cut to what bash takes for the word.
        __ckpt_complete() {
            local IFS=$' \t\n'
            local line="${COMP_LINE:0:${COMP_POINT}}" word
            local -a typed=()
            local -i last=-1
            for word in "${COMP_WORDS[@]:0:$((COMP_CWORD + 1))}"; do
                if [[ "${last}" -lt 0 || "${line}" = [[:space:]]* ]]; then
                    last+=1
                    typed[last]=''
                    line="${line#"${line%%[![:space:]]*}"}"
                fi
                typed[last]+="${line:0:${#word}}"
                line="${line:${#word}}"
            done
            local -a later=("${COMP_WORDS[@]:$((COMP_CWORD + 1))}")
            # The cursor may stand before a word.
            [[ -n "${typed[last]}" ]] || later=("${COMP_WORDS[@]:${COMP_CWORD}}")
            if [[ "${typed[last]}" = --*=* ]]; then
                typed[last + 1]="${typed[last]#*=}"
                typed[last]="${typed[last]%%=*}"
                last+=1
            fi
            [[ "${typed[0]}" != '~/'* ]] || typed[0]="${HOME}/${typed[0]#'~/'}"

            local word="${typed[last]}" cut='' quote=''
            if [[ -n "${2}" && "${word}" = *"${2}" ]]; then cut="${word%"${2}"}"; elif [[ -z "${2}" ]]; then cut="${word}"; fi
            if [[ "${word}" = [\"\']* ]]; then
                quote="${word:0:1}"
                word="${word:1}"
                cut="${cut:1}"
            else
                word="${word//\\/}"
            fi

            local -a COMP_WORDS=("${typed[@]}" "${later[@]}")
            local COMP_CWORD="${last}" COMP_LINE="${typed[*]}"
            local COMP_POINT="${#COMP_LINE}" are_files=false offers_files=false
            COMPREPLY=()
            _ckpt "${1}" "${word}" "${typed[last - 1]}" 2>/dev/null
            # The function above sets one, which would stay.
            trap - RETURN

            local -a files=()
            if "${offers_files}"; then
                while IFS='' read -r line; do files+=("${line}"); done < <(compgen -f -- "${word}")
                if [[ "${#COMPREPLY[@]}" -eq 0 ]]; then
                    are_files=true
                    COMPREPLY=("${files[@]}")
                else
                    for line in "${files[@]}"; do
                        [[ ! -d "${line}" ]] || line+=/
                        COMPREPLY+=("${line}")
                    done
                fi
            fi
            local -i index
            for index in "${!COMPREPLY[@]}"; do
                line="${COMPREPLY[index]#"${cut}"}"
                # bash quotes the names of files itself.
                if ! "${are_files}" && [[ -z "${quote}" && "${line}" = *[!-[:alnum:]_.,:@~/+=%]* ]]; then printf -v line %q "${line}"; fi
                COMPREPLY[index]="${line}"
            done
            if "${are_files}"; then
                compopt -o filenames 2>/dev/null
            else
                compopt -o nosort 2>/dev/null
                [[ "${#COMPREPLY[@]}" -ne 1 || "${COMPREPLY[0]}" != *[:/] ]] || compopt -o nospace 2>/dev/null
            fi
        }
        complete -F __ckpt_complete ckpt
        """#

    private static let zsh = #"""
        # As the function above, with files where they are offered, and without a space behind what goes on.
        __ckpt_custom_complete() {
            local -a lines names open_names
            lines=("${(@f)$("${~command_name}" "${@}" "${command_line[@]}" 2>/dev/null)}")
            names=("${(@)lines:#(|[[:space:]]|./|*\\:)}")
            open_names=("${(M@)lines:#*\\:}")
            (( ! ${#names} )) || _describe -V '' names
            (( ! ${#open_names} )) || _describe -V '' open_names -S ''
            (( ! ${lines[(Ie)./]} )) || _files
        }
        """#

    private static let fish = #"""
        # As the function above, with files where they are offered.
        functions --erase __ckpt_store_completion
        functions --copy __ckpt_custom_completion __ckpt_store_completion
        function __ckpt_custom_completion
            set -l lines (__ckpt_store_completion $argv 2>/dev/null)
            if contains -- ./ $lines
                set -e lines[(contains -i -- ./ $lines)]
                __fish_complete_path (commandline -ct)
            end
            printf '%s\n' $lines
        end
        """#
}
