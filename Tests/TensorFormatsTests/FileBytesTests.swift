import Foundation
import TensorFormats
import Testing

@Suite struct FileBytesTests {
    @Test func readsByPosition() throws {
        let url = FileManager.default.temporaryDirectory.appending(path: UUID().uuidString)
        defer { try? FileManager.default.removeItem(at: url) }
        try Data(0..<100).write(to: url)
        let file = try FileBytes(path: url.path)
        #expect(file.count == 100)
        #expect(try file.bytes(at: 90, count: 10) == Array(90..<100))
        #expect(try file.bytes(at: 100, count: 0) == [])
        let error = #expect(throws: FormatError.self) { try file.bytes(at: 95, count: 6) }
        #expect(error?.code == .truncated)
        #expect(throws: FormatError.self) { try file.bytes(at: .max, count: 6) }

        let handle = try FileHandle(forReadingFrom: url)
        let borrowed = try FileBytes(descriptor: handle.fileDescriptor, path: "borrowed")
        #expect(try borrowed.bytes(at: 1, count: 2) == [1, 2])

        // The file becomes shorter under an open reader.
        try Data(0..<50).write(to: url)
        let writer = try FileHandle(forWritingTo: url)
        let shrinking = try FileBytes(path: url.path)
        try writer.truncate(atOffset: 10)
        let cut = #expect(throws: FormatError.self) { try shrinking.bytes(at: 0, count: 50) }
        #expect(cut?.code == .truncated)
    }

    @Test func refusesWhatIsNoFile() throws {
        let missing = #expect(throws: FormatError.self) { try FileBytes(path: "/nonexistent/file") }
        #expect(missing?.code == .io)
        let directory = #expect(throws: FormatError.self) { try FileBytes(path: "/") }
        #expect(directory?.code == .unsupported)
        let closed = #expect(throws: FormatError.self) { try FileBytes(descriptor: -1, path: "x") }
        #expect(closed?.code == .io)
    }
}
