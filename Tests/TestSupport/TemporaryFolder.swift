import Foundation

/// A folder of a test's own, gone at the end.
public final class TemporaryFolder: Sendable {
  /// Where it is.
  public let path: String

  /// An empty folder, or one with copies of the files of another.
  public init(copying source: String? = nil) throws {
    path = FileManager.default.temporaryDirectory.appending(path: UUID().uuidString).path
    try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
    guard let source else { return }
    for name in try FileManager.default.contentsOfDirectory(atPath: source) {
      try copy("\(source)/\(name)")
    }
  }

  deinit { try? FileManager.default.removeItem(atPath: path) }

  /// Copies a file into the folder, in place of one of that name.
  public func copy(_ file: String) throws {
    let target = "\(path)/\(URL(filePath: file).lastPathComponent)"
    try? FileManager.default.removeItem(atPath: target)
    try FileManager.default.copyItem(atPath: file, toPath: target)
  }

  /// Removes a file.
  public func remove(_ name: String) throws {
    try FileManager.default.removeItem(atPath: "\(path)/\(name)")
  }
}
