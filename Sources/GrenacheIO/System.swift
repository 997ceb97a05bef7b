internal import CGrenacheLinux
internal import Glibc

/// Reads `CLOCK_MONOTONIC`.
func monotonicNanoseconds() -> UInt64 { grenache_monotonic_ns() }

/// A system call failed: its name and `errno`.
package struct SystemCallError: Error, Hashable, Sendable, CustomStringConvertible {
  package let call: String
  package let errno: Int32

  package init(call: String, errno: Int32) {
    self.call = call
    self.errno = errno
  }

  /// The error of the call that just failed on this thread.
  static func last(_ call: String) -> SystemCallError {
    SystemCallError(call: call, errno: Glibc.errno)
  }

  /// The system's words for `errno`.
  package var reason: String {
    var buffer = [CChar](repeating: 0, count: 128)
    return unsafe buffer.withUnsafeMutableBufferPointer { storage in
      guard let base = storage.baseAddress else { return "error \(errno)" }
      return unsafe String(cString: grenache_error_text(errno, base, storage.count))
    }
  }

  package var description: String { "\(call): \(reason)" }
}

/// Reads `CLOCK_REALTIME`.
func realTime() -> (seconds: Int64, nanoseconds: Int64) {
  var time = timespec()
  _ = unsafe clock_gettime(CLOCK_REALTIME, &time)
  return (Int64(time.tv_sec), Int64(time.tv_nsec))
}
