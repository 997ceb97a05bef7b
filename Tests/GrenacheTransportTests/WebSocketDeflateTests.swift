import GrenacheFraming
import GrenacheIO
import GrenacheTLS
import TestSupport
import Testing

@testable import GrenacheTransport

private func text(_ count: Int, _ salt: Int) -> [UInt8] {
  (0..<count).map { UInt8(truncatingIfNeeded: ($0 / 7) &* ($0 % 5 &+ salt)) }
}

@Suite("permessage-deflate over TLS (RFC 7692)", .timeLimit(.minutes(2)))
struct WebSocketDeflateTests {
  let authority: TestAuthority

  init() throws { authority = try TestAuthority() }

  private func exchange(
    client: WebSocketOptions, server: WebSocketOptions,
    _ body: (WebSocketProbe) async throws -> Void
  ) async throws {
    let tls = try authority.client()
    try await withServer(
      tls: try authority.host(), configure: { $0.webSocketOptions = server },
      openWebSocket: { _, _ in EchoHandler() }
    ) { server in
      let probe = try await WebSocketProbe(to: server.localAddress, tls: tls, options: client)
      try await body(probe)
    }
  }

  @Test(
    "messages of every size come back, with context and without",
    arguments: [
      (false, false, 15, 15), (true, true, 15, 15), (true, false, 9, 15), (true, true, 8, 12),
    ])
  func messages(
    _ clientKeeps: Bool, _ serverKeeps: Bool, _ clientBits: Int, _ serverBits: Int
  ) async throws {
    let client = WebSocketDeflate(
      keepsContext: clientKeeps, windowBitsMax: clientBits, messageBytesMin: 16)
    let server = WebSocketDeflate(
      keepsContext: serverKeeps, windowBitsMax: serverBits, messageBytesMin: 16)
    try await exchange(
      client: WebSocketOptions(deflate: client), server: WebSocketOptions(deflate: server)
    ) { probe in
      #expect(await probe.isCompressed)
      let sizes = [0, 1, 15, 16, 1_000, 1_000, 65_535, 65_536, 1 << 20, 5, 1_000]
      for size in sizes { await probe.send(text(size, 3)) }
      let received = await probe.messages(sizes.count)
      #expect(received == sizes.map { text($0, 3) })
    }
  }

  @Test("a server compresses for clients that offer it; our clients offer it only when told to")
  func defaults() async throws {
    try await exchange(client: .client, server: .server) { probe in
      #expect(await !probe.isCompressed)
    }
    try await exchange(
      client: WebSocketOptions(deflate: WebSocketDeflate()), server: .server
    ) { probe in
      #expect(await probe.isCompressed)
    }
    try await exchange(
      client: WebSocketOptions(deflate: WebSocketDeflate()), server: WebSocketOptions()
    ) { probe in
      #expect(await !probe.isCompressed)
    }
  }

  @Test("both ends know the subprotocol that was agreed upon")
  func subprotocol() async throws {
    try await exchange(
      client: WebSocketOptions(subprotocols: ["a", "b"]),
      server: WebSocketOptions(subprotocols: ["c", "b"])
    ) { probe in
      #expect(await probe.subprotocol == "b")
    }
  }
}

@Suite("Keep-alive of WebSockets (RFC 6455 §5.5.2)", .timeLimit(.minutes(2)))
struct WebSocketKeepAliveTests {
  private static let eager: WebSocketOptions = {
    var options = WebSocketOptions()
    options.pingInterval = .milliseconds(300)
    options.pongTimeout = .seconds(2)
    return options
  }()

  @Test("a peer that answers pings stays, one that does not is given up")
  func deadPeer() async throws {
    try await withServer(
      configure: { $0.webSocketOptions = Self.eager }, openWebSocket: { _, _ in EchoHandler() }
    ) { server in
      // Answers pings, as every endpoint of ours does: it outlives many deadlines of the other one.
      let alive = try await WebSocketProbe(to: server.localAddress)
      let dead = try await RawConnection(to: server.localAddress)
      await dead.send(
        "GET /ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
          + "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
      let received = await dead.receivedToEnd()
      #expect(received.isEnded)
      #expect(received.body == [0x89, 0x00])
      await alive.send([7])
      #expect(await alive.messages(1) == [[7]])
    }
  }
}
