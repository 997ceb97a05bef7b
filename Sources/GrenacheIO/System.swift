internal import CGrenacheLinux
internal import Glibc

/// Reads `CLOCK_MONOTONIC`.
func monotonicNanoseconds() -> UInt64 { grenache_monotonic_ns() }

/// A system call failed: there are not enough descriptors or threads for an event loop, for example.
public struct SystemCallError: Error, Hashable, Sendable, CustomStringConvertible {
  /// The call's name.
  public let call: String
  /// The system's number of what went wrong (`EMFILE` and others).
  public let errno: Int32

  package init(call: String, errno: Int32) {
    self.call = call
    self.errno = errno
  }

  /// Whether this process or its system is short of descriptors or memory: nothing is wrong with the other side.
  package var isShortage: Bool {
    switch errno {
    case EMFILE, ENFILE, ENOBUFS, ENOMEM, ENOSPC: true
    default: false
    }
  }

  /// The error of the call that just failed on this thread.
  static func last(_ call: String) -> SystemCallError {
    SystemCallError(call: call, errno: Glibc.errno)
  }

  /// The system's words for `errno`.
  public var reason: String {
    var buffer = [CChar](repeating: 0, count: 128)
    return unsafe buffer.withUnsafeMutableBufferPointer { storage in
      guard let base = storage.baseAddress else { return "error \(errno)" }
      return unsafe String(cString: grenache_error_text(errno, base, storage.count))
    }
  }

  /// The call and the system's words.
  public var description: String { "\(call): \(reason)" }
}

/// Reads `CLOCK_REALTIME`.
func realTime() -> (seconds: Int64, nanoseconds: Int64) {
  var time = timespec()
  _ = unsafe clock_gettime(CLOCK_REALTIME, &time)
  return (Int64(time.tv_sec), Int64(time.tv_nsec))
}
