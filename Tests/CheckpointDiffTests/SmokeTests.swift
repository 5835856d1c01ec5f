import Testing
import TestSupport

@Test func temporaryDirectoriesExist() throws {
    #expect(try !TemporaryDirectory().path.isEmpty)
}
