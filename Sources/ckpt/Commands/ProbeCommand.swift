import ArgumentParser
import CheckpointStore

struct ProbeCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "probe", abstract: "Keep fixed sets of samples on which the outputs of snapshots are compared.",
        discussion: ExitStatus.table, subcommands: [ProbeAdd.self, ProbeList.self, ProbeShow.self, ProbeRemove.self])
}
