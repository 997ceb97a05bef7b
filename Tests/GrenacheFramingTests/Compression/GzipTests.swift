import TestSupport
import Testing

@testable import GrenacheFraming

/// Text that compresses as text does, the same for a seed.
func prose(_ count: Int, seed: UInt64 = 1) -> [UInt8] {
  var generator = SeededGenerator(seed: seed)
  let words = ["grape", "lookup", "announce", "the", "of", "service", "peer", "key", "request"]
  var text: [UInt8] = []
  while text.count < count {
    text += Array((words.randomElement(using: &generator) ?? "").utf8)
    text.append(UInt8.random(in: 0x20...0x7e, using: &generator))
  }
  return Array(text.prefix(count))
}

func noise(_ count: Int, seed: UInt64 = 2) -> [UInt8] {
  var generator = SeededGenerator(seed: seed)
  return (0..<count).map { _ in UInt8.random(in: 0...255, using: &generator) }
}

private let limits = InflateLimits(outputBytesMax: 1 << 20)

/// Zeros, compressed as far as it goes.
private func zeroBomb(_ count: Int) throws -> [UInt8] {
  var encoder = try GzipEncoder(level: 9)
  var output: [UInt8] = []
  encoder.encode([UInt8](repeating: 0, count: count).span, into: &output)
  encoder.finish(into: &output)
  return output
}

private func code(
  _ bytes: [UInt8], _ limits: InflateLimits = limits
) -> CompressionError.Code? {
  do throws(CompressionError) {
    _ = try Gzip.decode(bytes.span, limits: limits)
    return nil
  } catch {
    return error.code
  }
}

@Suite("RFC 1952 gzip")
struct GzipTests {
  @Test("what was encoded is decoded", arguments: [0, 1, 2, 100, 65_535, 65_536, 1 << 20])
  func roundTrip(_ count: Int) throws {
    for (bytes, level) in [(prose(count), 1), (noise(count), 6), (prose(count), 9)] {
      let encoded = try Gzip.encode(bytes.span, level: level)
      #expect(try Gzip.decode(encoded.span, limits: limits) == bytes)
    }
  }

  @Test("every split of a stream, and every amount of room, gives the same bytes")
  func splits() throws {
    let bytes = prose(600)
    let encoded = try Gzip.encode(bytes.span)
    for cut in 0...encoded.count {
      var decoder = try GzipDecoder(limits: limits)
      var output: [UInt8] = []
      try decoder.decode(encoded.span.extracting(0..<cut), into: &output)
      try decoder.decode(encoded.span.extracting(cut..<encoded.count), into: &output)
      try decoder.finish()
      #expect(output == bytes, "cut at \(cut)")
    }
    for room in [1, 2, 7, 599, 600, 601] {
      var decoder = try GzipDecoder(limits: limits)
      var output: [UInt8] = []
      var offset = 0
      var progress = GzipDecoder.Progress.outputFull
      while progress == .outputFull {
        let before = output.count
        progress = try decoder.decode(encoded.span, from: &offset, into: &output, room: room)
        #expect(output.count - before <= room)
      }
      #expect(progress == .ended)
      #expect(output == bytes, "room for \(room)")
    }
  }

  @Test("what is encoded at once is never taken for a bomb, however uniform")
  func uniform() throws {
    let zeros = [UInt8](repeating: 0, count: 1 << 19)
    for bytes in [
      zeros, zeros + noise(1 << 19), noise(1 << 19) + zeros, Array(zeros.prefix(65_535)),
    ] {
      let encoded = try Gzip.encode(bytes.span)
      #expect(try Gzip.decode(encoded.span, limits: limits) == bytes)
    }
    // Below the first look at the ratio everything is compressed.
    #expect(try Gzip.encode(zeros.span.extracting(0..<65_535)).count < 500)
  }

  @Test("a flush lets everything out that has been encoded")
  func flush() throws {
    var encoder = try GzipEncoder()
    var decoder = try GzipDecoder(limits: limits)
    var decoded: [UInt8] = []
    for number in 0..<20 {
      let piece = prose(number * 37, seed: UInt64(number))
      var encoded: [UInt8] = []
      encoder.encode(piece.span, into: &encoded)
      encoder.flush(into: &encoded)
      decoded = []
      try decoder.decode(encoded.span, into: &decoded)
      #expect(decoded == piece)
    }
    var end: [UInt8] = []
    encoder.finish(into: &end)
    try decoder.decode(end.span, into: &decoded)
    try decoder.finish()
  }

  @Test("a stream that is cut at any byte is truncated, never whole")
  func truncation() throws {
    let encoded = try Gzip.encode(prose(300).span)
    for count in 0..<encoded.count {
      #expect(code(Array(encoded.prefix(count))) == .truncated, "\(count) bytes")
    }
  }

  @Test("damage is found", arguments: [0, 1, 2, 30, 60])
  func damage(_ index: Int) throws {
    var encoded = try Gzip.encode(prose(300).span)
    encoded[index] ^= 0xff
    #expect([.invalid, .truncated].contains(code(encoded)))
    var checksum = try Gzip.encode(prose(300).span)
    checksum[checksum.count - 5] ^= 1
    #expect(code(checksum) == .invalid)
  }

  @Test("P7 bytes behind the stream are refused at once")
  func trailing() throws {
    let encoded = try Gzip.encode(prose(300).span)
    #expect(code(encoded + [0]) == .trailingBytes)
    #expect(code(encoded + encoded) == .trailingBytes)
    var decoder = try GzipDecoder(limits: limits)
    var output: [UInt8] = []
    try decoder.decode(encoded.span, into: &output)
    let more: [UInt8] = [1]
    #expect(throws: CompressionError.self) { try decoder.decode(more.span, into: &output) }
    try decoder.decode([UInt8]().span, into: &output)
    try decoder.finish()
  }
}

@Suite("P7 Inflating is bounded by what really comes out")
struct InflateBoundTests {
  @Test("the size: at the limit and one past it")
  func size() throws {
    let encoded = try Gzip.encode(prose(10_000).span)
    #expect(code(encoded, InflateLimits(outputBytesMax: 10_000)) == nil)
    #expect(code(encoded, InflateLimits(outputBytesMax: 9_999)) == .tooLarge)
    #expect(code(encoded, InflateLimits(outputBytesMax: 0)) == .tooLarge)
    let empty = try Gzip.encode([UInt8]().span)
    #expect(code(empty, InflateLimits(outputBytesMax: 0)) == nil)
  }

  @Test("the ratio: at the limit and past it, but not for little")
  func ratio() throws {
    let encoded = try zeroBomb(100_000)
    let ratio = 100_000 / encoded.count
    #expect(ratio > 300)
    func limits(_ ratio: Int, check: Int = 1 << 10) -> InflateLimits {
      InflateLimits(outputBytesMax: 1 << 20, ratioMax: ratio, ratioCheckBytes: check)
    }
    #expect(code(encoded, limits(2 * ratio)) == nil)
    #expect(code(encoded, limits(ratio / 2)) == .tooLarge)
    #expect(code(encoded, limits(1, check: 100_001)) == nil)
    #expect(code(encoded, limits(1, check: 100_000)) == .tooLarge)
  }

  @Test("a bomb of 10 MiB takes less than 2 MiB, by either limit")
  func bomb() throws {
    let bomb = try zeroBomb(10 << 20)
    for limits in [limits, InflateLimits(outputBytesMax: 1 << 20, ratioMax: 5_000)] {
      var decoder = try GzipDecoder(limits: limits)
      var output: [UInt8] = []
      #expect(throws: CompressionError.self) { try decoder.decode(bomb.span, into: &output) }
      #expect(output.capacity < 2 << 20)
    }
  }

  @Test("mutated streams: no trap, always an end, and no split matters")
  func mutations() throws {
    var generator = SeededGenerator(seed: 5)
    let vectors = [
      try Gzip.encode(prose(2_000).span), try Gzip.encode(noise(200).span),
      try Gzip.encode([UInt8](repeating: 7, count: 5_000).span),
    ]
    let limits = InflateLimits(outputBytesMax: 4_000)
    for round in 0..<5_000 {
      var input = vectors.randomElement(using: &generator) ?? []
      for _ in 0..<Int.random(in: 1...3, using: &generator) {
        input[Int.random(in: 0..<input.count, using: &generator)] = UInt8.random(
          in: 0...255, using: &generator)
      }
      var decoder = try GzipDecoder(limits: limits)
      var output: [UInt8] = []
      var split: CompressionError.Code?
      do throws(CompressionError) {
        let cut = Int.random(in: 0...input.count, using: &generator)
        try decoder.decode(input.span.extracting(0..<cut), into: &output)
        try decoder.decode(input.span.extracting(cut..<input.count), into: &output)
        try decoder.finish()
      } catch {
        split = error.code
      }
      #expect(code(input, limits) == split, "round \(round)")
    }
  }
}
