import GrenacheFraming
import GrenacheIO
import Testing

@testable import GrenacheTransport

@Suite("RFC 6455 §5 What one side of a connection writes")
struct WebSocketWriterTests {
  /// What a peer reads of it.
  private func read(
    _ output: [UInt8], as role: WebSocketRole
  ) throws -> [(WebSocketMessageKind, [UInt8])] {
    var bytes = output
    var span = bytes.mutableSpan
    var reader = WebSocketReader(role: role, limits: WebSocketLimits())
    var (messages, offset): ([(WebSocketMessageKind, [UInt8])], Int) = ([], 0)
    while case .message(let kind, let range) = try reader.next(&span, from: &offset) {
      messages.append((kind, span.span.extracting(range).copy()))
    }
    #expect(offset == output.count)
    return messages
  }

  @Test("§5.3 a client masks, a server does not, and both ways of appending come to the same")
  func masks() async throws {
    let loop = try EventLoopGroup(count: 1).loops[0]
    try await loop.run { loop in
      for (masks, peer) in [(MaskingKeys.of(loop), WebSocketRole.server), (nil, .client)] {
        let writer = WebSocketWriter(masks: masks, deflater: nil)
        var output: [UInt8] = []
        writer.append(.text, Array("hello".utf8).span, to: &output)
        #expect(output[1] & 0x80 == (masks == nil ? 0 : 0x80))
        writer.append(.binary, payloadBytes: 3, to: &output) { $0 += [1, 2, 3] }
        let messages = try read(output, as: peer)
        #expect(messages.map(\.0) == [.text, .binary])
        #expect(messages.map(\.1) == [Array("hello".utf8), [1, 2, 3]])
        #expect(!writer.deflates(1 << 20))
      }
    }
  }

  @Test("RFC 7692 what was agreed upon is written from messageBytesMin on", arguments: [15, 16])
  func deflates(_ count: Int) async throws {
    let loop = try EventLoopGroup(count: 1).loops[0]
    await loop.run { loop in
      var agreement = WebSocketAgreement()
      agreement.deflate = WebSocketDeflateAgreement()
      var options = WebSocketOptions(deflate: nil, subprotocols: [])
      let limits = WebSocketLimits()
      let plain = agreement.coders(for: .server, limits: limits, options: options, on: loop).writer
      #expect(plain.deflater == nil && plain.masks == nil)
      options.deflate = WebSocketDeflate(messageBytesMin: 16)
      let writer = agreement.coders(for: .client, limits: limits, options: options, on: loop).writer
      #expect(writer.deflater != nil && writer.masks != nil)
      #expect(writer.deflates(count) == (count == 16))
      var output: [UInt8] = []
      writer.append(.text, [UInt8](repeating: 0x61, count: count).span, to: &output)
      // RSV1 says so (§6).
      #expect(output[0] == (count == 16 ? 0xc1 : 0x81))
    }
  }
}
