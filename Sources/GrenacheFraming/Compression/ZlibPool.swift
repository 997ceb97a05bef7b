internal import CZlib

/// Spare streams of zlib, which are dear to make: one of each kind, for all connections that compress each
/// message by itself. It belongs to one thread.
package final class ZlibPool {
  private var inflater: ZlibStream?
  private var inflaterBits = 0
  private var deflater: ZlibStream?
  private var deflaterKind = (level: 0, bits: 0)
  /// Memory for what is compressed before its frame can be written.
  private var scratch: [UInt8] = []

  /// More scratch memory than this is not kept.
  static let scratchBytesMax = 64 << 10

  package init() {}

  func takeInflater(windowBits: Int) throws(CompressionError) -> ZlibStream {
    if inflaterBits == windowBits, let spare = inflater.take() { return spare }
    return try ZlibStream.inflater(.raw, windowBits: windowBits)
  }

  func giveBackInflater(_ stream: consuming ZlibStream, windowBits: Int) {
    stream.reset()
    inflater = consume stream
    inflaterBits = windowBits
  }

  func takeDeflater(level: Int, windowBits: Int) throws(CompressionError) -> ZlibStream {
    if deflaterKind == (level, windowBits), let spare = deflater.take() { return spare }
    return try ZlibStream.deflater(.raw, level: level, windowBits: windowBits)
  }

  func giveBackDeflater(_ stream: consuming ZlibStream, level: Int, windowBits: Int) {
    stream.reset()
    deflater = consume stream
    deflaterKind = (level, windowBits)
  }

  /// Empty memory, to be given back.
  func takeScratch() -> [UInt8] {
    defer { scratch = [] }
    return scratch
  }

  func giveBackScratch(_ bytes: consuming [UInt8]) {
    guard bytes.capacity <= Self.scratchBytesMax else { return }
    bytes.removeAll(keepingCapacity: true)
    scratch = bytes
  }
}
