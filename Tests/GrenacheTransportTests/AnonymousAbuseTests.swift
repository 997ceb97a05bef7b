import GrenacheFraming
import GrenacheIO
import TestSupport
import Testing

@testable import GrenacheTLS
@testable import GrenacheTransport

/// What a stranger sends, and how that ends.
private struct Abuse: CustomTestStringConvertible {
  enum End: Equatable {
    case status(Int)
    case closeCode(Int)
  }
  var name: String
  var bytes: [UInt8]
  var end: End
  /// Whether it ends because nothing more comes: the others are not to meet such a deadline first.
  var isSlow = false
  var testDescription: String { name }

  init(_ name: String, _ request: String, status: Int) {
    (self.name, bytes, end) = (name, Array(request.utf8), .status(status))
    isSlow = status == 408
  }

  init(
    _ name: String, frames: [UInt8], closeCode: Int, extensions: String = "", isSlow: Bool = false
  ) {
    self.isSlow = isSlow
    let offer = extensions.isEmpty ? "" : "Sec-WebSocket-Extensions: \(extensions)\r\n"
    let upgrade = webSocketUpgrade.replacing("Host: x\r\n", with: "Host: x\r\n\(offer)")
    (self.name, bytes, end) = (name, Array(upgrade.utf8) + frames, .closeCode(closeCode))
  }

  static let all = [
    Abuse("P4 a head that does not end", "GET / HTTP/1.1\r\nHost: x\r\n", status: 408),
    Abuse(
      "P5 a head over 16 KiB",
      "GET / HTTP/1.1\r\nHost: x\r\n"
        + String(repeating: "X: \(String(repeating: "x", count: 4_000))\r\n", count: 5),
      status: 431),
    Abuse(
      "P5 more than 100 fields",
      "GET / HTTP/1.1\r\nHost: x\r\n" + String(repeating: "X: x\r\n", count: 100) + "\r\n",
      status: 431),
    Abuse(
      "P6 a body over 1 MiB, announced",
      "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1048577\r\n\r\n", status: 413),
    Abuse(
      "P6 a body over 1 MiB, in a chunk",
      "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n100001\r\n", status: 413),
    Abuse(
      "P6 a body that does not come",
      "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n", status: 408),
    Abuse(
      "P7 a message of 16 KiB that inflates to 16 MiB", frames: bomb, closeCode: 1009,
      extensions: "permessage-deflate"),
    Abuse("P8 more than 128 fragments", frames: fragments(129), closeCode: 1008),
    Abuse(
      "P8 a message that does not come on", frames: [0x82, 0xfe, 0x0b, 0xb8, 0, 0, 0, 0],
      closeCode: 1008, isSlow: true),
    Abuse(
      "P9 a length of 2⁶³−1",
      frames: [0x82, 0xff, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0],
      closeCode: 1009),
    Abuse(
      "P9 a message of 1 MiB and a byte, of which none has come",
      frames: [0x82, 0xff, 0, 0, 0, 0, 0, 0x10, 0, 1, 0, 0, 0, 0], closeCode: 1009),
    Abuse("P10 101 pings", frames: controls(9), closeCode: 1008),
    Abuse("P10 101 pongs", frames: controls(10), closeCode: 1008),
  ]

  /// A compressed message of nothing but zeros.
  private static var bomb: [UInt8] {
    let deflater = MessageDeflater(
      WebSocketDeflateAgreement(), role: .client, options: WebSocketDeflate(), pool: ZlibPool())
    var output: [UInt8] = []
    deflater.appendMessage(
      .binary, [UInt8](repeating: 0, count: 16 << 20).span, maskingKey: 0, to: &output)
    return output
  }

  private static func fragments(_ count: Int) -> [UInt8] {
    (0..<count).flatMap { clientFrame($0 == 0 ? 2 : 0, [1], isFinal: $0 == count - 1) }
  }

  private static func controls(_ opcode: UInt8) -> [UInt8] {
    [[UInt8]](repeating: clientFrame(opcode, []), count: 101).flatMap(\.self)
  }
}

@Suite("P12 P4 to P10 hold for those who have shown no certificate", .timeLimit(.minutes(5)))
struct AnonymousAbuseTests {
  @Test(
    "over TLS, without a certificate",
    arguments: [TLSConfiguration.ClientCertificates.none, .optional], Abuse.all)
  fileprivate func overTLS(
    _ certificates: TLSConfiguration.ClientCertificates, _ abuse: Abuse
  ) async throws {
    let authority = try TestAuthority()
    var tls = try authority.host()
    tls.clientCertificates = certificates
    try await check(abuse, tls: tls, client: authority.nobody())
  }

  @Test("in the clear", arguments: Abuse.all)
  fileprivate func inTheClear(_ abuse: Abuse) async throws {
    try await check(abuse, tls: nil, client: nil)
  }

  private func check(_ abuse: Abuse, tls: TLSConfiguration?, client: TLSContext?) async throws {
    let begun = Flag()
    try await withServer(
      tls: tls,
      configure: { configuration in
        guard abuse.isSlow else { return }
        configuration.headTimeout = .milliseconds(300)
        configuration.bodyGrace = .milliseconds(300)
        configuration.webSocket.messageGrace = .milliseconds(300)
      },
      respond: { _ in
        begun.set()
        return HTTPServerResponse(.ok)
      },
      openWebSocket: { request, _ in
        #expect(request.identity == nil)
        return EchoHandler()
      }
    ) { server in
      let stranger = try await RawStream(to: server.localAddress, tls: client)
      await stranger.send(abuse.bytes)
      let answer = await stranger.receivedToEnd()
      #expect(answer.isClosed)
      #expect(!begun.isSet, "no handler has seen it")
      switch abuse.end {
      case .status(let status):
        #expect(answer.text.hasPrefix("HTTP/1.1 \(status) "))
      case .closeCode(let code):
        #expect(answer.text.hasPrefix("HTTP/1.1 101 "))
        let close = Array(answer.body.drop { $0 != 0x88 })
        #expect(close.count > 3 && Int(close[2]) << 8 | Int(close[3]) == code)
      }
    }
  }
}
