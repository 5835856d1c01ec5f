#!/usr/bin/env python3
"""Writes the manual pages of ckpt, one for each command, from what `ckpt --experimental-dump-help` prints.

The argument parser's own generator calls them ckpt.diff and so on, has no section of options, and says of every command that
it exits with 0 or more.

usage: manual.py VERSION DIRECTORY <dump.json
"""

import datetime
import json
import os
import re
import sys

EXIT_STATUS = "EXIT STATUS"


def escaped(text):
    """Text as roff prints it: hyphens that can be copied, no requests at the beginning of a line."""
    text = text.replace("\\", "\\e").replace("-", "\\-").replace("'", "\\(aq").replace("`", "\\(ga")
    text = text.replace("^", "\\(ha").replace("~", "\\(ti")
    return "\\&" + text if text.startswith((".", "\\(aq")) else text


def name(argument):
    """What an argument is called: its value, or its names."""
    if argument["kind"] == "positional":
        return "\\fI" + escaped(argument["valueName"]) + "\\fR"
    dashes = {"long": "--", "short": "-", "longWithSingleDash": "-"}
    names = ["\\fB" + escaped(dashes[n["kind"]] + n["name"]) + "\\fR" for n in argument["names"]]
    value = " \\fI" + escaped(argument["valueName"]) + "\\fR" if argument["kind"] == "option" else ""
    return ", ".join(n + value for n in names)


def shown(command, key):
    return [one for one in command.get(key) or [] if one.get("shouldDisplay", True)]


def called(command):
    return command.get("superCommands", []) + [command["commandName"]]


def synopsis(command):
    lines = ['.SY "' + escaped(" ".join(called(command))) + '"']
    if shown(command, "subcommands"):
        return lines + ["\\fIcommand\\fR", "\\fR[\\fIoptions\\fR]", ".YS"]
    arguments = shown(command, "arguments")
    for argument in sorted(arguments, key=lambda a: a["kind"] == "positional"):
        names = [n["name"] for n in argument.get("names") or []]
        # Every command has these.
        if "help" in names or "version" in names:
            continue
        if argument["kind"] == "positional":
            word = name(argument)
        else:
            word = name({**argument, "names": [argument["preferredName"]]}).replace(" ", "\\ ")
        word += "\\~.\\|.\\|." if argument["isRepeating"] else ""
        lines.append("[" + word + "]" if argument["isOptional"] else word)
    return lines + [".YS"]


def paragraphs(text):
    """Text as the help has it: a paragraph a line, but for headings, and lines that are indented, which stay as they are."""
    lines, is_verbatim = [], False
    for line in text.split("\n"):
        if line.startswith("  ") != is_verbatim:
            is_verbatim = not is_verbatim
            lines += [".RS", ".nf"] if is_verbatim else [".fi", ".RE"]
        if not line:
            lines.append(".PP")
        elif is_verbatim:
            lines.append(escaped(line[2:]))
        elif re.fullmatch(r"[A-Z ]+", line) and lines:
            lines[-1:] = [".SS " + escaped(line.capitalize())]
        else:
            lines.append(escaped(line))
    return lines + ([".fi", ".RE"] if is_verbatim else [])


def items(arguments):
    lines = []
    for argument in arguments:
        text = argument.get("abstract", "")
        if argument.get("allValues"):
            # Where the text does not say them.
            if not all(value in text for value in argument["allValues"]):
                text += " One of: " + ", ".join(argument["allValues"]) + "."
        if argument.get("defaultValue") and "default" not in text:
            text += " Default: " + argument["defaultValue"].removesuffix(".0") + "."
        lines += [".TP", name(argument), escaped(text)]
    return lines


def page(command, all_commands, version):
    title = "-".join(called(command))
    text, _, status = command.get("discussion", "").partition(EXIT_STATUS)
    abstract = command["abstract"]
    lines = [
        f'.TH "{escaped(title.upper())}" 1 "{datetime.date.today()}" "ckpt {version}" "ckpt"',
        ".SH NAME", escaped(title) + " \\- " + escaped(abstract[0].lower() + abstract[1:].rstrip(".")),
        ".SH SYNOPSIS", *synopsis(command), ".SH DESCRIPTION", escaped(abstract),
    ]
    if text.strip():
        lines += [".PP", *paragraphs(text.strip())]
    if shown(command, "subcommands"):
        lines.append(".SH COMMANDS")
        for sub in shown(command, "subcommands"):
            if sub["commandName"] != "help":
                lines += [".TP", f"\\fB{escaped('-'.join(called(sub)))}\\fR(1)", escaped(sub["abstract"])]
    arguments = shown(command, "arguments")
    positional = [a for a in arguments if a["kind"] == "positional"]
    if positional:
        lines += [".SH ARGUMENTS", *items(positional)]
    options = [a for a in arguments if a["kind"] != "positional"]
    lines.append(".SH OPTIONS")
    titles = list(dict.fromkeys(a.get("sectionTitle") for a in options))
    for title in sorted(titles, key=lambda t: t is not None):
        if title:
            lines.append(".SS " + escaped(title))
        lines += items([a for a in options if a.get("sectionTitle") == title])
    if not command.get("superCommands"):
        lines += [".SH ENVIRONMENT", ".TP", "\\fBCKPT_STORE\\fR", "The store, where \\fB\\-\\-store\\fR does not name one."]
    if status:
        lines.append(".SH EXIT STATUS")
        for number, meaning in re.findall(r"(\d+) ((?:[^,(]|\([^)]*\))+)", " ".join(status.split())):
            lines += [".TP", f"\\fB{number}\\fR", escaped(meaning.strip())]
    parents = called(command)[:-1]
    if parents:
        others = [called(c) for c in all_commands if called(c)[:-1] == parents and c is not command]
        pages = ",\n".join(f"\\%\\fB{escaped('-'.join(names))}\\fR(1)" for names in [parents] + others)
        lines += [".SH SEE ALSO", pages]
    return "\n".join(lines) + "\n"


def with_subcommands(command):
    yield command
    for sub in shown(command, "subcommands"):
        if sub["commandName"] != "help":
            yield from with_subcommands(sub)


def main():
    version, directory = sys.argv[1:]
    all_commands = list(with_subcommands(json.load(sys.stdin)["command"]))
    for command in all_commands:
        with open(os.path.join(directory, "-".join(called(command)) + ".1"), "w", encoding="utf-8") as file:
            file.write(page(command, all_commands, version))


main()
