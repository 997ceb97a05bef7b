internal import CZlib

/// One of zlib's streams; it belongs to whoever holds it, and frees its memory with itself.
@safe
struct ZlibStream: ~Copyable {
  private let handle: OpaquePointer

  /// A stream that inflates, about 8 KiB and the window of 2 to the power of `windowBits` bytes.
  static func inflater(
    _ format: czlib_format, windowBits: Int = 15
  ) throws(CompressionError) -> ZlibStream {
    unsafe try ZlibStream(unsafe czlib_inflater_new(format, Int32(clamping: windowBits)))
  }

  /// A stream that deflates: 4 windows, and 2 to the power of `memoryLevel` + 9 bytes.
  static func deflater(
    _ format: czlib_format, level: Int, windowBits: Int = 15, memoryLevel: Int = 8
  ) throws(CompressionError) -> ZlibStream {
    unsafe try ZlibStream(
      unsafe czlib_deflater_new(
        format, Int32(clamping: level), Int32(clamping: windowBits), Int32(clamping: memoryLevel)))
  }

  private init(_ handle: OpaquePointer?) throws(CompressionError) {
    guard let handle = unsafe handle else { throw .outOfMemory }
    unsafe self.handle = handle
  }

  deinit {
    unsafe czlib_free(handle)
  }

  /// Forgets what went through.
  mutating func reset() {
    unsafe czlib_reset(handle)
  }

  /// Whether inflating stands where a block may begin.
  var isBetweenBlocks: Bool { unsafe czlib_is_between_blocks(handle) }

  /// Inflates from `range` of `input` to the end of `output`, which grows by `room` bytes at the most.
  mutating func inflate(
    _ input: Span<UInt8>, _ range: Range<Int>, into output: inout [UInt8], room: Int
  ) -> czlib_step {
    unsafe step(input, range, into: &output, room: room) { source, count, target, room in
      unsafe czlib_inflate(handle, source, count, target, room)
    }
  }

  /// Deflates likewise.
  mutating func deflate(
    _ input: Span<UInt8>, _ range: Range<Int>, into output: inout [UInt8], room: Int,
    flush: czlib_flush
  ) -> czlib_step {
    unsafe step(input, range, into: &output, room: room) { source, count, target, room in
      unsafe czlib_deflate(handle, source, count, target, room, flush)
    }
  }

  /// Both lend memory for one call. The array grows by its own rule, so that many steps cost as much as
  /// one large one.
  private func step(
    _ input: Span<UInt8>, _ range: Range<Int>, into output: inout [UInt8], room: Int,
    _ call: (UnsafePointer<UInt8>?, Int, UnsafeMutablePointer<UInt8>, Int) -> czlib_step
  ) -> czlib_step {
    var outcome = czlib_step(status: .stalled, consumed: 0, produced: 0)
    guard room > 0 else { return outcome }
    let piece = input.extracting(range)
    let start = output.count
    output.append(addingCapacity: room) { target in
      unsafe piece.withUnsafeBufferPointer { source in
        unsafe target.withUnsafeMutableBufferPointer { buffer, initialized in
          guard let base = buffer.baseAddress else { return }
          outcome = unsafe call(
            source.baseAddress, source.count, base + initialized,
            min(room, buffer.count - initialized))
          initialized += outcome.produced
        }
      }
    }
    assert(output.count == start + outcome.produced)
    return outcome
  }
}
