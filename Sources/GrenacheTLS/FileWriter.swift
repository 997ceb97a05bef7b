internal import Glibc

/// Writes small files.
package enum FileWriter {
  package static func makeDirectory(
    _ path: String, mode: UInt32 = 0o755
  ) throws(CertificateAuthority.Failure) {
    var prefix = path.hasPrefix("/") ? "/" : ""
    for part in path.split(separator: "/") {
      prefix += (prefix.isEmpty || prefix.hasSuffix("/") ? "" : "/") + part
      guard unsafe mkdir(prefix, mode) == 0 || errno == EEXIST else {
        throw failure("the folder \(prefix) cannot be made", errno)
      }
    }
  }

  /// Writes beside the target and renames, so that no reader ever sees half a file; from the start
  /// with its final mode, so that nobody else ever sees a key. Of several that write at the same time
  /// each has a draft of its own.
  ///
  /// - Parameter replacing: whether a file of that name is replaced; otherwise it is an error.
  package static func write(
    _ text: String, to path: String, mode: UInt32, replacing: Bool = true
  ) throws(CertificateAuthority.Failure) {
    let draft = "\(path).\(Digest.hex(secureRandomBytes(8))).new"
    let descriptor = unsafe open(draft, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode)
    guard descriptor >= 0 else { throw failure("\(path) cannot be written", errno) }
    var problem = write(Array(text.utf8), to: descriptor)
    if close(descriptor) != 0, problem == 0 { problem = errno }
    if problem == 0, !put(draft, at: path, replacing) { problem = errno }
    guard problem == 0 else {
      _ = unsafe unlink(draft)
      throw problem == EEXIST
        ? .init(description: "\(path) exists already", isOfFile: true)
        : failure("\(path) cannot be written", problem)
    }
  }

  /// Takes a file away, if it is there.
  package static func remove(_ path: String) throws(CertificateAuthority.Failure) {
    guard unsafe unlink(path) == 0 || errno == ENOENT else {
      throw failure("\(path) cannot be removed", errno)
    }
  }

  /// - Returns: the number of the error that was in the way, 0 for none.
  private static func write(_ bytes: [UInt8], to descriptor: Int32) -> Int32 {
    var written = 0
    while written < bytes.count {
      let count = unsafe bytes.withUnsafeBytes { buffer in
        let rest = unsafe UnsafeRawBufferPointer(rebasing: buffer[written...])
        return unsafe Glibc.write(descriptor, rest.baseAddress, rest.count)
      }
      if count < 0, errno == EINTR { continue }
      guard count > 0 else { return count < 0 ? errno : EIO }
      written += count
    }
    return 0
  }

  /// Gives the draft its name, in one step: unlike `rename`, `link` replaces nothing.
  private static func put(_ draft: String, at path: String, _ replacing: Bool) -> Bool {
    if replacing { return unsafe rename(draft, path) == 0 }
    guard unsafe link(draft, path) == 0 else { return false }
    return unsafe unlink(draft) == 0
  }

  private static func failure(_ what: String, _ code: Int32) -> CertificateAuthority.Failure {
    let reason = unsafe strerror(code).map { unsafe String(cString: $0) } ?? "error \(code)"
    return .init(description: "\(what): \(reason)", isOfFile: true)
  }
}
