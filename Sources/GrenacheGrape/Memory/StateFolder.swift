internal import Foundation
internal import Glibc

/// The folder of a grape's state: one grape at a time uses it, and nobody else reads what is in it.
final class StateFolder: Sendable {
  /// Somebody else uses the folder.
  struct InUse: Error {
    let path: String
  }

  /// Held for as long as the folder is used; the system gives it up when the process ends, however.
  static let lockName = "grape.lock"

  let path: String
  private let lock: CInt

  /// Makes the folder if need be, and takes it.
  ///
  /// - Throws: `InUse`, or `GrapeError` when the folder cannot be used at all.
  init(_ path: String) throws {
    do {
      try FileManager.default.createDirectory(
        atPath: path, withIntermediateDirectories: true, attributes: [.posixPermissions: 0o700])
    } catch {
      throw GrapeError(.stateUnusable, "the state folder \(path) cannot be made: \(error)")
    }
    let name = "\(path)/\(Self.lockName)"
    lock = unsafe open(name, O_RDWR | O_CREAT | O_CLOEXEC, 0o600)
    self.path = path
    guard lock >= 0 else {
      throw GrapeError(
        .stateUnusable, "the state folder \(path) cannot be used: \(Self.reason(errno))")
    }
    guard flock(lock, LOCK_EX | LOCK_NB) == 0 else {
      let code = errno
      if code == EWOULDBLOCK { throw InUse(path: path) }
      throw GrapeError(
        .stateUnusable, "the state folder \(path) cannot be locked: \(Self.reason(code))")
    }
  }

  deinit {
    if lock >= 0 { close(lock) }
  }

  /// Has a file be there that its owner alone reads and writes; an empty one if there was none.
  ///
  /// No descriptor of a file that was there is closed: that would give up the locks of this process.
  func makePrivate(_ file: String) throws(GrapeError) {
    if unsafe chmod(file, 0o600) == 0 { return }
    guard errno == ENOENT else {
      throw GrapeError(.stateUnusable, "\(file) cannot be made private: \(Self.reason(errno))")
    }
    let descriptor = unsafe open(file, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0o600)
    guard descriptor >= 0 else {
      throw GrapeError(.stateUnusable, "\(file) cannot be made: \(Self.reason(errno))")
    }
    close(descriptor)
  }

  private static func reason(_ code: CInt) -> String { unsafe String(cString: strerror(code)) }
}
