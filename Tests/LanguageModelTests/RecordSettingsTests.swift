import CheckpointStore
import LanguageModel
import Testing

@Suite struct RecordSettingsTests {
    private static let weak = ContentID.hash(of: [1])

    private func canonical(_ settings: [String: String]) throws -> [String: String] {
        let probe = try Probe(samples: [ProbeSample(id: "a", tokens: [1, 2, 3], supervised: [1..<3])])
        return try RecordSettings.canonical(settings, on: probe) { (ref) throws(StoreError) in
            guard ref == "r@1" || ref == "\(RecordSettingsTests.weak)" else { throw StoreError(.noSuchRef, ref) }
            return RecordSettingsTests.weak
        }
    }

    @Test(arguments: [".5", "0.5", "0.50", "5e-1", "0.500000001"]) func oneNumberIsOneText(_ lambda: String) throws {
        let settings = try canonical(["precision": "f32", "weak": "r@1", "lambda": lambda])
        #expect(settings == ["precision": "f32", "weak": "\(RecordSettingsTests.weak)", "lambda": "0.5"])
        #expect(RecordSettings.columns(under: settings) == [.klStrongWeak, .klWeakStrong, .lnC, .hardNegatives])
    }

    @Test(arguments: ["0", "1", "-0.1", "nan", "x", "", "1e-60", "0.99999999999"]) func noLambda(_ lambda: String) throws {
        #expect { try canonical(["lambda": lambda]) } throws: { ($0 as? StoreError)?.code == .badInput }
    }

    @Test func weakSnapshotsAreLookedUp() throws {
        #expect { try canonical(["weak": "r@2"]) } throws: { ($0 as? StoreError)?.code == .noSuchRef }
    }

    /// A limit that cuts nothing changes nothing.
    @Test func lengthsThatCutNothingAreLeftOut() throws {
        #expect(try canonical(["precision": "f32", "max_length": "3"]) == ["precision": "f32"])
        #expect(try canonical(["precision": "f32", "max_length": "2"])["max_length"] == "2")
    }

    @Test func settingsOfOthers() {
        #expect(RecordSettings.columns(under: ["precision": "f32"]) == [.entropy, .nll, .top1])
        #expect(RecordSettings.columns(under: ["precision": "f32", "max_length": "9"]) == [.entropy, .nll, .top1])
        for settings in [[:], ["precision": "bf16"], ["precision": "f32", "weak": "x"], ["precision": "f32", "device": "cuda"]] {
            #expect(RecordSettings.columns(under: settings) == nil)
        }
    }
}
