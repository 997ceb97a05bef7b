internal import CZlib

/// Writes gzip (RFC 1952) as its input comes.
package struct GzipEncoder: ~Copyable {
  private var stream: ZlibStream

  /// An encoder of one stream. It holds about 260 KiB.
  ///
  /// - Parameter level: 0 for none, 1, the fastest, to 9.
  package init(level: Int = 1) throws(CompressionError) {
    stream = try ZlibStream.deflater(.gzip, level: min(max(level, 0), 9))
  }

  /// Appends what is ready of `input`; the rest waits for more, `flush` or `finish`.
  package mutating func encode(_ input: Span<UInt8>, into output: inout [UInt8]) {
    stream.deflateAll(input, into: &output, flush: .none)
  }

  /// Appends everything that has been encoded, so that the peer can decode all of it now.
  package mutating func flush(into output: inout [UInt8]) {
    stream.deflateAll([UInt8]().span, into: &output, flush: .sync)
  }

  /// Appends the end of the stream; nothing follows.
  package mutating func finish(into output: inout [UInt8]) {
    stream.deflateAll([UInt8]().span, into: &output, flush: .finish)
  }
}

extension ZlibStream {
  /// Deflates all of `input`. Room is always there, so that nothing is left and it cannot fail.
  mutating func deflateAll(
    _ input: Span<UInt8>, into output: inout [UInt8], flush: czlib_flush
  ) {
    var offset = 0
    while true {
      let room = min(max((input.count - offset) / 2, 256), 64 << 10)
      let step = deflate(
        input, offset..<input.count, into: &output, room: room, flush: flush)
      offset += step.consumed
      switch step.status {
      case .progress:
        // Room that is left over means that nothing waits inside.
        if offset == input.count, step.produced < room { return }
      case .stalled, .end, .invalid, .memory:
        return
      }
    }
  }
}

/// gzip for bytes that are all there.
package enum Gzip {
  /// `bytes` as one gzip stream, which a decoder with the default ratio takes: what is so uniform that it
  /// would pass for a bomb is stored as it is.
  package static func encode(
    _ bytes: Span<UInt8>, level: Int = 1
  ) throws(CompressionError) -> [UInt8] {
    var output: [UInt8] = []
    var encoder = try GzipEncoder(level: level)
    if encodePieces(bytes, with: &encoder, into: &output) {
      encoder.finish(into: &output)
      return output
    }
    output.removeAll()
    var storing = try GzipEncoder(level: 0)
    storing.encode(bytes, into: &output)
    storing.finish(into: &output)
    return output
  }

  /// Flushes wherever a decoder looks at the ratio, so that what it will see is known here; `false`, at
  /// once, where it would find too much.
  private static func encodePieces(
    _ bytes: Span<UInt8>, with encoder: inout GzipEncoder, into output: inout [UInt8]
  ) -> Bool {
    let limits = InflateLimits(outputBytesMax: .max)
    var start = 0
    while bytes.count - start >= limits.ratioCheckBytes {
      let end = start + limits.ratioCheckBytes
      encoder.encode(bytes.extracting(start..<end), into: &output)
      encoder.flush(into: &output)
      start = end
      let seen = output.count - flushBytes
      guard limits.isPlausible(consumed: seen, produced: end) else { return false }
    }
    encoder.encode(bytes.extracting(start..<bytes.count), into: &output)
    return true
  }

  /// A decoder may look before the last bytes of a flush.
  private static let flushBytes = 8

  /// What the gzip stream `bytes` holds.
  ///
  /// - Throws: `CompressionError`, also for a stream that is not whole or not all.
  package static func decode(
    _ bytes: Span<UInt8>, limits: InflateLimits
  ) throws(CompressionError) -> [UInt8] {
    var decoder = try GzipDecoder(limits: limits)
    var output: [UInt8] = []
    try decoder.decode(bytes, into: &output)
    try decoder.finish()
    return output
  }
}
