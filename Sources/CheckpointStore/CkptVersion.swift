/// The version of this program and its libraries.
public enum CkptVersion {
    /// As semantic versioning has it.
    public static let current = "0.1.0"
}
