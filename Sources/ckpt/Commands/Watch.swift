import ArgumentParser
import CheckpointReports
import CheckpointStore

#if canImport(Glibc)
import Glibc
#elseif canImport(Musl)
import Musl
#else
import Darwin
#endif

/// `ckpt watch`
struct Watch: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Follow a trainer's output directory: take each checkpoint in when it is complete.",
        discussion: """
            A checkpoint is complete when its weights, all its shards and what its older siblings have are there and nothing of
            it has changed for --settle seconds; without a trainer_state.json, which trainers write last, for six times as long.
            After each, the policy that the store keeps for its run is applied (ckpt prune --save). What was taken in before,
            or dropped by a policy, is known again after a restart and not read.

            --move removes originals, but for the newest --leave of them: each only after every file of it was read back from
            the store and compared; until then the policy leaves its snapshot whole. A trainer that loads its best checkpoint at
            the end, or resumes, needs those it names.

            Runs until Ctrl-C or SIGTERM; --once ends when nothing is left to wait for, and with an error when a checkpoint was
            refused or stays incomplete: nothing has changed for six times --settle.

            \(ExitStatus.table)
            """.flowing)

    @Argument(help: "The directory that holds checkpoint-N directories, or will.", completion: .directory)
    var directory: String
    @Option(name: .customLong("run"), help: "The run they join; by default named like the directory.", completion: .run)
    var runName: String?
    @Option(help: ArgumentHelp("Seconds that files must have stayed as they are.", valueName: "seconds"))
    var settle = 5.0
    @Option(help: ArgumentHelp("Seconds from one look to the next.", valueName: "seconds"))
    var interval = 2.0
    @Flag(help: "Remove originals that are in the store.")
    var move = false
    @Option(help: ArgumentHelp("Originals that --move leaves: the newest.", valueName: "n"))
    var leave = 1
    @Flag(help: "End when all that is there is taken in.")
    var once = false
    @Option(help: ArgumentHelp("Drop the optimizer's state of all but the run's last N steps; tags and pins keep it.", valueName: "n"))
    var optimizerKeep: Int?
    @Flag(name: .customLong("no-image"), help: "Make no image of the newest snapshot.")
    var makesNoImage = false
    @OptionGroup var options: StoreOptions

    func validate() throws {
        guard settle >= 0, settle < 1e6, interval > 0, interval < 1e6 else { throw ValidationError("--settle and --interval are seconds") }
        guard leave >= 0 else { throw ValidationError("--leave is not negative") }
        guard optimizerKeep == nil || !move else {
            throw ValidationError("--move compares whole checkpoints, --optimizer-keep drops parts of them first: ckpt prune --optimizer-keep N --save does it after")
        }
        guard optimizerKeep ?? 1 >= 1 else { throw ValidationError("--optimizer-keep is 1 at least") }
    }

    func run() throws {
        let store = try options.open()
        var watchOptions = CheckpointWatch.Options()
        watchOptions.ingest.run = runName
        watchOptions.ingest.makesImage = !makesNoImage
        watchOptions.ingest.optimizerKeep = optimizerKeep
        watchOptions.settleSeconds = settle
        let watch = CheckpointWatch(store, directory, watchOptions)
        if move {
            // What cannot be removed is no reason to take nothing in.
            do { try watch.removeLeftovers() } catch { say("note: \(error)") }
        }
        let report = IngestReport(isJSON: options.json)
        let monitor = Monitor(progress: { report.show($0) }, isCancelled: { Interrupt.isRequested })
        var said: [String: String] = [:]
        var refusals = 0
        say("watching \(directory)")
        while !Interrupt.isRequested {
            var isWaiting = true
            do throws(StoreError) {
                let look = try watch.look(now: Clock.seconds, monitor: monitor) { report.add($0) }
                for refused in look.refused { say("\(refused.error)") }
                refusals += look.refused.count
                tell(look.waiting + (look.absence.map { [(directory, $0)] } ?? []), &said)
                var changed = Set(look.taken.map(\.run))
                let left = try removeOriginals(look.originals, watch, monitor, &changed, &said)
                // Only once originals are compared: what a policy has dropped cannot be.
                for run in changed.sorted() { PolicyAfterIngest(store: store, isJSON: options.json).apply(to: run, sparing: left) }
                isWaiting = !look.waiting.isEmpty || !look.taken.isEmpty
                if once, !watch.isThere { throw StoreError(.badInput, "\(directory): no such directory") }
                if once, let stuck = look.stuck {
                    report.finish()
                    throw StoreError(.incomplete, "\(stuck.path): \(stuck.reason); nothing has changed for \(Int(look.quietSeconds)) s, so it is given up")
                }
            } catch {
                // Another writer, a disk that is full for now: look again.
                guard error.code == .locked || error.code == .diskFull, !once else {
                    if error.code == .interrupted { break }
                    throw error
                }
                tell([(directory, "\(error)")], &said)
            }
            if once, !isWaiting {
                report.finish()
                if refusals > 0 { throw StoreError(.badInput, "\(directory): \(Format.count(refusals, "checkpoint")) refused") }
                return
            }
            sleep()
        }
        throw StoreError(.interrupted, "interrupted; \(report.committed)")
    }

    /// Removes originals of what is in the store, but the newest, and adds their runs to `changed`. Returns the snapshots whose originals are
    /// left, and why nothing is to be dropped of them yet.
    private func removeOriginals(
        _ originals: [(path: String, ref: String, id: ContentID)], _ watch: CheckpointWatch, _ monitor: Monitor, _ changed: inout Set<String>,
        _ said: inout [String: String]
    ) throws(StoreError) -> [ContentID: String] {
        guard move else { return [:] }
        var left = Dictionary(originals.map { ($0.id, "its original is to be removed yet") }) { $1 }
        for original in originals.dropLast(leave) {
            do throws(StoreError) {
                try watch.removeOriginal(original.path, of: original.ref, monitor: monitor)
                left[original.id] = nil
                changed.insert(String(original.ref[..<(original.ref.lastIndex(of: "@") ?? original.ref.endIndex)]))
                if options.json {
                    Console.print(JSONOutput.object([("message_type", "moved"), ("source", .string(original.path)), ("ref", .string(original.ref))]).text)
                } else {
                    Console.print("\(original.path): compared with \(original.ref) and removed")
                }
            } catch {
                guard error.code != .interrupted && error.code != .locked && error.code != .damaged else { throw error }
                tell([(original.path, "left in place: \(error)")], &said)
            }
        }
        return left
    }

    /// Says each thing once, until it changes.
    private func tell(_ things: [(path: String, reason: String)], _ said: inout [String: String]) {
        for thing in things where said[thing.path] != thing.reason {
            said[thing.path] = thing.reason
            say(thing.reason.hasPrefix(thing.path) ? thing.reason : "\(thing.path): \(thing.reason)")
        }
    }

    private func say(_ text: String) {
        Console.endProgress()
        Console.error(Console.printable("ckpt: \(text)"))
    }

    /// Until the next look, in pieces short enough for Ctrl-C.
    private func sleep() {
        let end = Clock.seconds + interval
        while Clock.seconds < end, !Interrupt.isRequested { usleep(useconds_t(min(0.1, max(0.001, end - Clock.seconds)) * 1e6)) }
    }
}
