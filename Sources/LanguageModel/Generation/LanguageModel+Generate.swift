internal import CheckpointStore
internal import Dispatch
internal import Synchronization

extension LanguageModel {
    /// Sequences that a thread continues at a time, at most; and what their keys and values, and their logits, may take.
    private static let widestLane = 64
    private static let cacheBytes = 1 << 29
    private static let logitBytes = 1 << 26

    private func laneWidth(_ requests: [GenerationRequest], _ options: GenerationOptions) -> Int {
        let share = (requests.count + options.threadCount - 1) / options.threadCount
        let byCaches = LanguageModel.cacheBytes / max(1, cacheBytes(requests, options))
        return max(1, min(LanguageModel.widestLane, share, byCaches, LanguageModel.logitBytes / (4 * vocabularySize)))
    }

    /// Keys and values of the longest sequence.
    private func cacheBytes(_ requests: [GenerationRequest], _ options: GenerationOptions) -> Int {
        let length = min(longest, (requests.map(\.tokens.count).max() ?? 0) + options.maximumNew)
        return 4 * architecture.layerCount * architecture.cachedColumns * length
    }

    /// Anonymous memory that `generate` takes at most, in bytes.
    public func generationMemory(_ requests: [GenerationRequest], _ options: GenerationOptions) -> Int {
        let prompt = max(DecodingLane.promptTokens, requests.map(\.tokens.count).max() ?? 0)
        let width = laneWidth(requests, options)
        let lane = memory(tokens: prompt) + width * (cacheBytes(requests, options) + 4 * vocabularySize)
        return min(options.threadCount, max(1, requests.count)) * lane + tableMemory
    }

    /// Continues each request until its end, token by token.
    ///
    /// What becomes of a request depends on it and the options alone: not on the others, their order or the number of threads.
    ///
    /// - Parameters:
    ///   - isStopped: asked before each layer of a batch.
    ///   - deliver: called on any thread, one call at a time; a request's events come in their order.
    /// - Throws: `.malformed` for options that make no sense and for logits that are no numbers; `.mismatch` for a prompt that is
    ///   empty, too long or has a token beyond the vocabulary; `.interrupted` when stopped.
    /// - Complexity: O(tokens * parameters), over the threads; memory as `generationMemory` says.
    public func generate(
        _ requests: [GenerationRequest], _ options: GenerationOptions, isStopped: @Sendable () -> Bool = { false },
        deliver: (GenerationEvent) throws -> Void
    ) throws(LanguageModelError) {
        try options.check()
        try check(requests)
        let width = laneWidth(requests, options)
        let next = Mutex(0)
        let failure = Mutex<LanguageModelError?>(nil)
        let delivery = Mutex(())
        // Used only until `concurrentPerform` returns, under a lock.
        nonisolated(unsafe) let deliver = deliver
        DispatchQueue.concurrentPerform(iterations: min(options.threadCount, max(1, requests.count))) { _ in
            do {
                var lane = try DecodingLane(self, options, width: width)
                try lane.run(
                    next: { room in
                        next.withLock { next in
                            guard next < requests.count, requests[next].tokens.count <= room else { return nil }
                            next += 1
                            return (next - 1, requests[next - 1])
                        }
                    }, isStopped: { isStopped() || failure.withLock { $0 != nil } },
                    deliver: { events in try delivery.withLock { _ in try events.forEach(deliver) } })
            } catch {
                let error = error as? LanguageModelError ?? LanguageModelError(.failed, "\(error)")
                failure.withLock { if $0 == nil { $0 = error } }
            }
        }
        if let failure = failure.withLock({ $0 }) { throw failure }
    }

    /// The same, returned in the order of the requests.
    public func generate(
        _ requests: [GenerationRequest], _ options: GenerationOptions
    ) throws(LanguageModelError) -> [Generation] {
        var all = [Generation](repeating: Generation(), count: requests.count)
        try generate(requests, options) { event in
            if case .finished(let request, let made) = event { all[request] = made }
        }
        return all
    }

    private func check(_ requests: [GenerationRequest]) throws(LanguageModelError) {
        for request in requests {
            guard !request.tokens.isEmpty else {
                throw LanguageModelError(.mismatch, "\(request.shown): no token to go on from", hint: "give it a prompt")
            }
            guard request.tokens.count <= longest else {
                throw LanguageModelError(
                    .mismatch, "\(request.shown): a prompt of \(request.tokens.count) tokens, and the model was opened for \(longest)")
            }
            try ScoringSample.check(request.tokens, request.shown, vocabulary: vocabularySize, of: contents.name)
        }
    }
}
