internal import COpenSSL
internal import Glibc
internal import Synchronization

/// Writes the secrets of connections to a file in the format that Wireshark reads
/// (`SSLKEYLOGFILE`): whoever has the file reads everything.
final class TLSKeyLog: Sendable {
  private let descriptor: Mutex<Int32>

  /// - Throws: `FileReader.Failure` when the file cannot be appended to.
  init(path: String) throws(FileReader.Failure) {
    let flags = O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK
    let descriptor = unsafe open(path, flags, 0o600)
    guard descriptor >= 0 else {
      throw FileReader.Failure(reason: "cannot be written (error \(errno))")
    }
    var status = stat()
    guard unsafe fstat(descriptor, &status) == 0, status.st_mode & S_IFMT == S_IFREG,
      status.st_uid == geteuid(), status.st_mode & 0o077 == 0
    else {
      _ = close(descriptor)
      throw FileReader.Failure(reason: "is no file of this user's own that others cannot read")
    }
    self.descriptor = Mutex(descriptor)
  }

  deinit { descriptor.withLock { _ = close($0) } }

  func append(_ line: UnsafePointer<CChar>) {
    var bytes = unsafe Array(UnsafeBufferPointer(start: line, count: strlen(line)))
    bytes.append(0x0a)
    descriptor.withLock { _ = unsafe Glibc.write($0, bytes, bytes.count) }
  }
}

func logKeys(_ ssl: OpaquePointer?, _ line: UnsafePointer<CChar>?) {
  guard let ssl = unsafe ssl, let line = unsafe line else { return }
  unsafe TLSEngine.of(ssl, otherwise: ()) { engine in
    unsafe engine.snapshot.keyLog?.append(line)
  }
}
