internal import COpenSSL

/// The memory between one event loop and OpenSSL: ciphertext that has come, and ciphertext to send.
///
/// A loop has one window and serves one connection at a time, so that all its connections share it.
@safe
package final class TLSWindow {
  /// What may be sealed before the output is taken.
  package static let plaintextBytesMax = 128 << 10
  /// Room for that, for the overhead of its records (22 bytes each in TLS 1.3 and at most 61 in TLS 1.2),
  /// and for what TLS itself has to say.
  static let outputBytes = plaintextBytesMax + (32 << 10)

  let raw: UnsafeMutablePointer<grenache_window>

  /// - Parameter outputCapacity: ciphertext that one pass may produce before it is taken.
  package init(outputCapacity: Int = TLSWindow.outputBytes) {
    unsafe raw = .allocate(capacity: 1)
    unsafe raw.initialize(to: grenache_window())
    unsafe raw.pointee.out = .allocate(capacity: outputCapacity)
    unsafe raw.pointee.out_cap = outputCapacity
  }

  deinit {
    unsafe raw.pointee.out.deallocate()
    unsafe raw.deallocate()
  }

  /// Lends ciphertext that has come. The memory must stay until the engine has asked for more.
  @inline(__always)
  package func lend(_ input: UnsafeRawBufferPointer) {
    unsafe raw.pointee.in = input.baseAddress?.assumingMemoryBound(to: UInt8.self)
    unsafe raw.pointee.in_len = input.count
  }

  /// Ends the loan.
  package func takeBack() {
    unsafe raw.pointee.in = nil
    unsafe raw.pointee.in_len = 0
  }

  /// Lends the ciphertext that waits to be sent.
  @inline(__always)
  package func withOutput<Failure: Error>(
    _ body: (UnsafeRawBufferPointer) throws(Failure) -> Void
  ) throws(Failure) {
    let bytes = unsafe UnsafeRawBufferPointer(start: raw.pointee.out, count: raw.pointee.out_len)
    try unsafe body(bytes)
  }

  /// Forgets the ciphertext that waits: it has been sent or will never be.
  @inline(__always)
  package func dropOutput() {
    unsafe raw.pointee.out_len = 0
  }
}
