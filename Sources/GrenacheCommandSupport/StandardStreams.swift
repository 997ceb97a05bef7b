internal import CStandardStreams
internal import Glibc

/// What every command does with standard input, output and error.
package enum StandardStreams {
  /// All of standard input as a text in UTF-8.
  ///
  /// - Parameter what: what the text is for, in the message of the failure.
  /// - Throws: `CommandFailure` for more than `bytesMax` bytes and for what is no text;
  ///   `BlockingReader.Failure`.
  package static func inputText(bytesMax: Int, of what: String) async throws -> String {
    var bytes: [UInt8] = []
    // One byte more than there may be is read to find out.
    while bytes.count <= bytesMax {
      let part = try await BlockingReader.read(
        STDIN_FILENO, bytesMax: min(bytesMax + 1 - bytes.count, 64 << 10))
      if part.isEmpty { break }
      bytes += part
    }
    guard bytes.count <= bytesMax else {
      throw CommandFailure(.data, "the input has more than the \(bytesMax) bytes of \(what).")
    }
    guard let text = String(validating: bytes, as: UTF8.self) else {
      throw CommandFailure(.data, "the input is no text in UTF-8, as \(what) has to be.")
    }
    return text
  }

  /// Waits until a descriptor that somebody has told not to wait can be read from or written to.
  static func wait(for descriptor: Int32, _ events: Int32) {
    var descriptor = pollfd(fd: descriptor, events: Int16(events), revents: 0)
    _ = unsafe poll(&descriptor, 1, -1)
  }

  /// What the system says of an error, with its number.
  static func text(ofError number: Int32) -> String {
    let text = unsafe strerror(number).map { unsafe String(cString: $0) } ?? "unknown"
    return "\(text) (error \(number))"
  }
}

/// Prints a line on standard error.
public func printError(_ text: String) {
  _ = write(Array((text + "\n").utf8), to: STDERR_FILENO)
}

/// Prints a line on standard output, at once. Where nobody reads it any more the process ends: quietly, as
/// others do whose reader has seen enough.
public func printLine(_ text: String) {
  printBytes(Array((text + "\n").utf8))
}

/// The same for bytes as they are.
public func printBytes(_ bytes: [UInt8]) {
  let error = write(bytes, to: STDOUT_FILENO)
  guard error != 0 else { return }
  if error == EPIPE { exit(0) }
  printError("error: standard output: \(StandardStreams.text(ofError: error))")
  exit(CommandExit.software.rawValue)
}

/// - Returns: the number of the error that was in the way, 0 for none.
private func write(_ whole: [UInt8], to descriptor: Int32) -> Int32 {
  var bytes = whole[...]
  while !bytes.isEmpty {
    let count = unsafe bytes.withUnsafeBytes { bytes in
      unsafe Glibc.write(descriptor, bytes.baseAddress, bytes.count)
    }
    if count >= 0 {
      bytes = bytes.dropFirst(count)
    } else if errno == EAGAIN {
      StandardStreams.wait(for: descriptor, POLLOUT)
    } else if errno != EINTR {
      return errno
    }
  }
  return 0
}
