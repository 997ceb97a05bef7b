internal import GrenacheIO
internal import GrenacheTLS

/// The memory that all connections of one loop share, so that an idle connection owns none.
///
/// Only one connection of a loop is ever inside a read or a write, so one of each buffer is enough:
/// ciphertext as received, plaintext as decrypted, and the window that OpenSSL reads and writes.
@safe
final class LoopBuffers {
  /// What one call of `recv` may take.
  static let receiveBytes = 64 << 10
  /// Room for plaintext beside what is left from the last pass: one receive, and the record of which
  /// OpenSSL already held a part.
  static let plaintextBytes = receiveBytes + (20 << 10)
  /// How much plaintext is gathered before it is encrypted.
  static let sealBytes = TLSWindow.plaintextBytesMax
  /// How many output buffers a loop keeps for reuse.
  static let pooledOutputsMax = 64

  let window: TLSWindow
  let ciphertext: UnsafeMutableRawBufferPointer
  private(set) var plaintext: UnsafeMutableRawBufferPointer
  private var outputs: [[UInt8]] = []
  /// Sockets of this loop that wait for their peer to close.
  var lingeringCount = 0
  private var registries: [ObjectIdentifier: TLSStreamRegistry] = [:]

  private init() {
    window = TLSWindow()
    unsafe ciphertext = .allocate(byteCount: Self.receiveBytes, alignment: 64)
    unsafe plaintext = .allocate(byteCount: 2 * Self.plaintextBytes, alignment: 64)
  }

  deinit {
    unsafe ciphertext.deallocate()
    unsafe plaintext.deallocate()
  }

  /// The buffers of `loop`.
  static func of(_ loop: isolated EventLoop) -> LoopBuffers {
    loop.core.local(LoopBuffers.self) { LoopBuffers() }
  }

  /// Puts what a connection kept from its last pass at the start of the plaintext buffer and makes
  /// sure that there is room for one pass behind it.
  func beginPass(with leftover: [UInt8]) {
    let needed = leftover.count + Self.plaintextBytes
    if unsafe needed > plaintext.count {
      unsafe plaintext.deallocate()
      unsafe plaintext = .allocate(byteCount: needed, alignment: 64)
    }
    unsafe leftover.withUnsafeBytes { unsafe plaintext.copyMemory(from: $0) }
  }

  /// An empty output buffer.
  func takeOutput() -> [UInt8] {
    outputs.popLast() ?? []
  }

  /// Takes a buffer back, unless it is one that a large message has grown.
  func giveBack(_ output: consuming [UInt8]) {
    guard output.capacity > 0, output.capacity <= Self.sealBytes,
      outputs.count < Self.pooledOutputsMax
    else { return }
    output.removeAll(keepingCapacity: true)
    outputs.append(output)
  }

  /// Notes an open TLS stream, until `forget`.
  func register(_ stream: ByteStream, of context: TLSContext, on loop: isolated EventLoop) {
    let registry = registries[ObjectIdentifier(context)] ?? TLSStreamRegistry(context)
    registries[ObjectIdentifier(context)] = registry
    registry.add(stream, on: loop)
  }

  func forget(_ stream: ByteStream, of context: TLSContext, on loop: isolated EventLoop) {
    guard let registry = registries[ObjectIdentifier(context)] else { return }
    registry.remove(stream, on: loop)
    if registry.isEmpty { registries[ObjectIdentifier(context)] = nil }
  }
}
