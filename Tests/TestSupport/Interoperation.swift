import Foundation

/// Whether tests with programs that nobody here wrote may be left out where these are missing.
public enum Interoperation {
  /// They fail in place of that where `REQUIRE_INTEROP` is set to anything but 0, as `.ci/run` does.
  public static let isRequired = isRequired(in: ProcessInfo.processInfo.environment)

  /// The same, of a process with these variables.
  public static func isRequired(in environment: [String: String]) -> Bool {
    !["", "0"].contains(environment["REQUIRE_INTEROP"] ?? "")
  }
}
