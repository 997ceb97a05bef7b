import GrenacheFraming
import GrenacheIO
import GrenacheTLS
import Synchronization
import TestSupport
import Testing

@testable import GrenacheTransport

/// A client on a loop, for code that is not on it.
private struct ClientProbe: Sendable {
  private let bound: LoopBound<HTTPClient>
  private let destination: Destination

  init(
    to address: SocketAddress, tls: TLSConfiguration? = nil,
    configure: (inout HTTPClientConfiguration) -> Void = { _ in }
  ) async throws {
    var configuration = HTTPClientConfiguration()
    configure(&configuration)
    let context = try tls.map { try TLSContext($0) }
    let settings = configuration
    bound = try await EventLoopGroup.shared().next().run { loop in
      LoopBound(HTTPClient(context: context, configuration: settings), on: loop)
    }
    destination = Destination(Endpoint(address), verification: .name("127.0.0.1"))
  }

  func send(
    _ request: HTTPClientRequest = .init(.get, "/"), isRetryable: Bool = false,
    within time: Duration = .seconds(10)
  ) async throws(TransportError) -> HTTPClientResponse {
    try await Self.send(
      request, bound, destination, isRetryable, by: .now() + time, on: bound.loop)
  }

  /// A request, another one that waits for its connection, and a third one in the turn in which the first
  /// is answered.
  func sendInTurn() async throws {
    try await Self.sendInTurn(bound, destination, on: bound.loop)
  }

  private static func sendInTurn(
    _ bound: LoopBound<HTTPClient>, _ destination: Destination, on loop: isolated EventLoop
  ) async throws {
    @Sendable func send(_ target: String, on loop: isolated EventLoop) async throws {
      _ = try await bound.get(on: loop).send(
        HTTPClientRequest(.get, target), to: destination, by: .now() + .seconds(10),
        isRetryable: false, on: loop)
    }
    let first = Task {
      try await send("/first", on: loop)
      try await send("/late", on: loop)
    }
    let waits = Task { try await send("/waits", on: loop) }
    try await first.value
    try await waits.value
  }

  func connect(within time: Duration = .seconds(10)) async throws(TransportError) -> Bool {
    try await Self.connect(bound, destination, by: .now() + time, on: bound.loop)
  }

  private static func connect(
    _ bound: LoopBound<HTTPClient>, _ destination: Destination, by deadline: MonotonicTime,
    on loop: isolated EventLoop
  ) async throws(TransportError) -> Bool {
    try await bound.get(on: loop).connect(to: destination, by: deadline, on: loop)
  }

  var destinationCount: Int {
    get async {
      let bound = bound
      return await bound.loop.run { loop in bound.get(on: loop).destinationCount }
    }
  }

  func close() async {
    let bound = bound
    await bound.loop.run { loop in bound.get(on: loop).close(on: loop) }
  }

  private static func send(
    _ request: HTTPClientRequest, _ bound: LoopBound<HTTPClient>, _ destination: Destination,
    _ isRetryable: Bool, by deadline: MonotonicTime, on loop: isolated EventLoop
  ) async throws(TransportError) -> HTTPClientResponse {
    try await bound.get(on: loop).send(
      request, to: destination, by: deadline, isRetryable: isRetryable, on: loop)
  }
}

@Suite("HTTP client", .timeLimit(.minutes(2)))
struct HTTPClientTests {
  @Test("who waits for a connection gets it before those who come later")
  func turns() async throws {
    let targets = Mutex<[String]>([])
    try await withServer(respond: { request in
      targets.withLock { $0.append(request.target) }
      return HTTPServerResponse(.ok)
    }) { server in
      let client = try await ClientProbe(to: server.localAddress) {
        $0.connectionsPerDestinationMax = 1
      }
      try await client.sendInTurn()
      await client.close()
    }
    #expect(targets.withLock { $0 } == ["/first", "/waits", "/late"])
  }

  private static let ok = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

  private func withScript<Result>(
    _ lines: [ScriptedServer.Line], _ body: (ScriptedServer) async throws -> Result
  ) async throws -> Result {
    let server = try await ScriptedServer(lines)
    do {
      let result = try await body(server)
      await server.stop()
      return result
    } catch {
      await server.stop()
      throw error
    }
  }

  @Test("over mutual TLS: bodies of all sizes, the server's identity, one connection for all")
  func requests() async throws {
    let authority = try TestAuthority()
    try await withServer(tls: try authority.host()) { server in
      let client = try await ClientProbe(to: server.localAddress, tls: try authority.client())
      for size in [0, 1, 16_384, 1 << 20] {
        let body = [UInt8](repeating: 7, count: size)
        let response = try await client.send(HTTPClientRequest(.post, "/x", body: body))
        #expect(response.status == .ok)
        #expect(response.body == body)
        #expect(response.identity?.names.isEmpty == false)
        #expect(response.negotiated?.version == "TLSv1.3")
      }
      #expect(await server.connectionCount == 1)
    }
  }

  @Test("more requests than connections wait for one, and no more connections are made")
  func pool() async throws {
    try await withServer { server in
      let client = try await ClientProbe(to: server.localAddress) {
        $0.connectionsPerDestinationMax = 3
      }
      try await withThrowingTaskGroup(of: Bool.self) { group in
        for number in 0..<100 {
          group.addTask {
            let body = Array("\(number)".utf8)
            return try await client.send(HTTPClientRequest(.post, "/", body: body)).body == body
          }
        }
        for try await isRight in group { #expect(isRight) }
      }
      #expect(await server.connectionCount == 3)
    }
  }

  @Test("requests that wait beyond the limit fail at once, one at the limit waits for its deadline")
  func waiting() async throws {
    try await withScript([.saysNothing]) { server in
      let client = try await ClientProbe(to: server.address) { configuration in
        configuration.connectionsPerDestinationMax = 1
        configuration.waitingMax = 1
      }
      let codes = await withTaskGroup(of: TransportError.Code?.self) { group in
        for _ in 0..<3 {
          group.addTask {
            do throws(TransportError) {
              _ = try await client.send(within: .milliseconds(300))
              return nil
            } catch {
              return error.code
            }
          }
        }
        return await group.reduce(into: [TransportError.Code?: Int]()) { $0[$1, default: 0] += 1 }
      }
      #expect(codes == [.timedOut: 2, .limitReached: 1])
    }
  }

  @Test("who has given up waiting takes no other's place in the queue", arguments: [true, false])
  func gaveUp(byCancellation: Bool) async throws {
    try await withScript([.saysNothing]) { server in
      let client = try await ClientProbe(to: server.address) { configuration in
        configuration.connectionsPerDestinationMax = 1
        configuration.waitingMax = 1
      }
      let busy = Task { try? await client.send(within: .seconds(60)) }
      try await eventually { await server.counts.requests >= 1 }
      for _ in 0..<3 {
        let waits = Task { () -> TransportError.Code? in
          do throws(TransportError) {
            _ = try await client.send(
              within: byCancellation ? .seconds(60) : .milliseconds(100))
            return nil
          } catch {
            return error.code
          }
        }
        if byCancellation {
          for _ in 0..<100 { await Task.yield() }
          waits.cancel()
        }
        #expect(await waits.value == (byCancellation ? .cancelled : .timedOut))
      }
      busy.cancel()
      _ = await busy.value
    }
  }

  @Test(
    "a kept connection that the server has closed is replaced, for requests that may be repeated")
  func stale() async throws {
    try await withScript([.says(Self.ok), .saysAndCloses(""), .says(Self.ok)]) { server in
      let client = try await ClientProbe(to: server.address)
      _ = try await client.send(isRetryable: true)
      let response = try await client.send(isRetryable: true)
      #expect(response.body == Array("ok".utf8))
      let counts = await server.counts
      #expect(counts.connections == 2)
      #expect(counts.requests == 3)
    }
  }

  @Test("a request that must not be repeated is not")
  func notRepeated() async throws {
    try await withScript([.says(Self.ok), .saysAndCloses(""), .says(Self.ok)]) { server in
      let client = try await ClientProbe(to: server.address)
      _ = try await client.send()
      let error = await #expect(throws: TransportError.self) { try await client.send() }
      #expect(error?.code == .connectionClosed)
      #expect(await server.counts.requests == 2)
    }
  }

  @Test("P34 of several kept connections that are dead, one costs a request its second attempt")
  func allStale() async throws {
    try await withScript([.says(Self.ok), .saysAndCloses(""), .saysAndCloses(""), .says(Self.ok)]) {
      server in
      let client = try await ClientProbe(to: server.address)
      _ = try await client.send(isRetryable: true)
      let error = await #expect(throws: TransportError.self) {
        try await client.send(isRetryable: true)
      }
      #expect(error?.code == .connectionClosed)
      #expect(await server.counts.requests == 3)
    }
  }

  @Test("an answer that closes the connection has this side close it, whatever the server does")
  func closesBehindAnswer() async throws {
    let closing = "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok"
    try await withScript([.says(closing), .says(closing)]) { server in
      let client = try await ClientProbe(to: server.address)
      for _ in 0..<2 { _ = try await client.send() }
      // The server closes a connection when it reads the client's end.
      try await eventually { await server.openConnections <= 0 }
    }
  }

  @Test("what waits for a connection, or is under way, fails when the client is closed")
  func close() async throws {
    try await withScript([.saysNothing]) { server in
      let client = try await ClientProbe(to: server.address) { $0.connectionsPerDestinationMax = 1 }
      let errors = try await withThrowingTaskGroup(
        of: TransportError.Code?.self
      ) { group in
        for _ in 0..<3 {
          group.addTask {
            do throws(TransportError) {
              _ = try await client.send(within: .seconds(30))
              return nil
            } catch {
              return error.code
            }
          }
        }
        try await eventually { await server.counts.requests != 0 }
        await client.close()
        return try await group.reduce(into: []) { $0.append($1) }
      }
      #expect(errors == [.connectionClosed, .connectionClosed, .connectionClosed])
      let late = await #expect(throws: TransportError.self) { try await client.send() }
      #expect(late?.code == .connectionClosed)
    }
  }

  @Test("a fresh connection that breaks is not tried again: that could go on for ever")
  func freshBreaks() async throws {
    try await withScript([.saysAndCloses(""), .says(Self.ok)]) { server in
      let client = try await ClientProbe(to: server.address)
      let error = await #expect(throws: TransportError.self) {
        try await client.send(isRetryable: true)
      }
      #expect(error?.code == .connectionClosed)
      #expect(await server.counts.requests == 1)
    }
  }

  @Test(
    "RFC 9112 §6.3 a body by length, by chunks, and by the end of the stream",
    arguments: [
      ok, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\no\r\n1\r\nk\r\n0\r\n\r\n",
      "HTTP/1.0 200 OK\r\n\r\nok", "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n\r\nok",
    ])
  func bodies(_ text: String) async throws {
    try await withScript([.saysAndCloses(text)]) { server in
      let client = try await ClientProbe(to: server.address)
      #expect(try await client.send().body == Array("ok".utf8))
    }
  }

  @Test(
    "P23 an answer that is cut off is an error, never a short body",
    arguments: [
      ("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok", TransportError.Code.protocolViolated),
      ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n", .protocolViolated),
      ("HTTP/1.1 200 OK\r\nContent-Le", .connectionClosed),
      ("", .connectionClosed),
      ("SSH-2.0-OpenSSH\r\n\r\n", .protocolViolated),
    ])
  func truncated(_ text: String, _ code: TransportError.Code) async throws {
    try await withScript([.saysAndCloses(text)]) { server in
      let client = try await ClientProbe(to: server.address)
      let error = await #expect(throws: TransportError.self) { try await client.send() }
      #expect(error?.code == code)
    }
  }

  @Test("bytes behind an answer are not taken for the answer of the next request")
  func smuggled() async throws {
    let evil = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"
    try await withScript([.says(Self.ok + evil), .says(Self.ok)]) { server in
      let client = try await ClientProbe(to: server.address)
      for _ in 0..<2 { #expect(try await client.send().body == Array("ok".utf8)) }
      #expect(await server.counts.connections == 2)
    }
  }

  @Test("a body over the limit is refused, one at the limit is not", arguments: [0, 1])
  func limit(excess: Int) async throws {
    let body = String(repeating: "x", count: 100 + excess)
    let text = "HTTP/1.1 200 OK\r\nContent-Length: \(100 + excess)\r\n\r\n\(body)"
    try await withScript([.says(text)]) { server in
      let client = try await ClientProbe(to: server.address) { $0.http.bodyBytesMax = 100 }
      if excess == 0 {
        #expect(try await client.send().body.count == 100)
      } else {
        let error = await #expect(throws: TransportError.self) { try await client.send() }
        #expect(error?.code == .protocolViolated)
      }
    }
  }

  @Test("a field that would split the request is refused before anything is sent")
  func splitting() async throws {
    try await withScript([.says(Self.ok)]) { server in
      let client = try await ClientProbe(to: server.address)
      for request in [
        HTTPClientRequest(.get, "/", fields: [("X", "a\r\nY: b")]),
        HTTPClientRequest(.get, "/ HTTP/1.1\r\nX: y"),
      ] {
        let error = await #expect(throws: TransportError.self) { try await client.send(request) }
        #expect(error?.code == .invalidRequest)
      }
      #expect(await server.counts.requests == 0)
    }
  }

  @Test("a cancelled request says so, wherever it was", arguments: [true, false])
  func cancelled(beforeConnecting: Bool) async throws {
    try await withScript([.saysNothing]) { server in
      let client = try await ClientProbe(to: server.address)
      let task = Task {
        if beforeConnecting { withUnsafeCurrentTask { $0?.cancel() } }
        _ = try await client.send()
      }
      if !beforeConnecting {
        try await eventually { await server.counts.requests != 0 }
        task.cancel()
      }
      let error = await #expect(throws: TransportError.self) { try await task.value }
      #expect(error?.code == .cancelled)
    }
  }

  @Test("a server that says nothing costs the deadline, and its connection is not used again")
  func silent() async throws {
    try await withScript([.saysNothing, .says(Self.ok)]) { server in
      let client = try await ClientProbe(to: server.address)
      let error = await #expect(throws: TransportError.self) {
        try await client.send(within: .milliseconds(100))
      }
      #expect(error?.code == .timedOut)
      #expect(try await client.send().status == .ok)
      #expect(await server.counts.connections == 2)
    }
  }

  @Test(
    "a client that is closed while requests wait keeps nothing of their destination",
    arguments: [1, 40])
  func closedWhileWaiting(_ count: Int) async throws {
    try await withScript([.saysNothing]) { server in
      let client = try await ClientProbe(to: server.address) {
        $0.connectionsPerDestinationMax = 1
      }
      let requests = (0...count).map { _ in Task { try await client.send(within: .seconds(50)) } }
      try await eventually { await server.counts.requests != 0 }
      for _ in 0..<1_000 { await Task.yield() }
      await client.close()
      for request in requests {
        await #expect(throws: TransportError.self) { try await request.value }
      }
      #expect(await client.destinationCount == 0)
    }
  }

  @Test("connecting ahead says whether there is a connection: not that somebody is making one")
  func connectingAhead() async throws {
    let authority = try TestAuthority()
    // It says nothing, so that no handshake ends.
    try await withScript([.saysNothing]) { server in
      let client = try await ClientProbe(to: server.address, tls: try authority.client())
      let request = Task { try await client.send(within: .seconds(50)) }
      try await eventually { await server.counts.connections != 0 }
      #expect(try await client.connect() == false)
      request.cancel()
      _ = await request.result
    }
    try await withScript([.says(Self.ok)]) { server in
      let client = try await ClientProbe(to: server.address)
      #expect(try await client.connect())
      #expect(try await client.connect())
      _ = try await client.send()
      #expect(await server.counts.connections == 1)
      await client.close()
    }
  }
}
