internal import Glibc

/// Reads small files whole.
package enum FileReader {
  /// More than this is no PEM file.
  static let bytesMax = 16 << 20

  package struct Failure: Error {
    package var reason: String
  }

  static func exists(_ path: String) -> Bool { unsafe access(path, F_OK) == 0 }

  /// Whether somebody beside the owner may read or write a file that is there.
  static func isOpenToOthers(_ path: String) -> Bool {
    var status = stat()
    return unsafe stat(path, &status) == 0 && status.st_mode & 0o077 != 0
  }

  package static func read(_ path: String) throws(Failure) -> [UInt8] {
    let descriptor = unsafe open(path, O_RDONLY | O_CLOEXEC)
    guard descriptor >= 0 else { throw Failure(reason: reason(of: errno)) }
    defer { _ = close(descriptor) }
    var bytes: [UInt8] = []
    var buffer = [UInt8](repeating: 0, count: 64 << 10)
    while true {
      let count = unsafe Glibc.read(descriptor, &buffer, buffer.count)
      if count == 0 { return bytes }
      guard count > 0 else { throw Failure(reason: reason(of: errno)) }
      bytes.append(contentsOf: buffer[..<count])
      guard bytes.count <= bytesMax else {
        throw Failure(reason: "is larger than \(bytesMax >> 20) MiB")
      }
    }
  }

  /// The same of a file with a secret, which nobody but its owner may be able to read or write.
  package static func readSecret(_ path: String) throws(Failure) -> [UInt8] {
    guard !isOpenToOthers(path) else {
      throw Failure(reason: "is open to others than its owner: chmod 600 it, if it is still secret")
    }
    return try read(path)
  }

  private static func reason(of code: Int32) -> String {
    switch code {
    case ENOENT: "does not exist"
    case EACCES, EPERM: "may not be read"
    case EISDIR: "is a directory"
    default: "cannot be read (error \(code))"
    }
  }
}

/// What changes when a file is written or replaced, links followed.
package struct FileStamp: Hashable, Sendable {
  private let device: UInt
  private let inode: UInt
  private let size: Int
  private let changed: [Int]

  /// `nil` for a file that is not there or may not be looked at.
  package init?(path: String) {
    var status = stat()
    guard unsafe stat(path, &status) == 0 else { return nil }
    device = UInt(status.st_dev)
    inode = UInt(status.st_ino)
    size = Int(status.st_size)
    changed = [
      status.st_mtim.tv_sec, status.st_mtim.tv_nsec, status.st_ctim.tv_sec, status.st_ctim.tv_nsec,
    ]
  }
}
