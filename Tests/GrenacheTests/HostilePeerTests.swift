import Foundation
import GrenacheFraming
import GrenacheIO
import GrenacheTransport
import Synchronization
import TestSupport
import Testing

@testable import Grenache
@testable import GrenacheTLS

@Suite("P2 A dead or hostile peer fails only that call", .timeLimit(.minutes(2)))
struct HostilePeerTests {
  let authority: TestAuthority
  let hello = Array("\"hello\"".utf8)

  init() throws { authority = try TestAuthority() }

  private func error(
    calling worker: Endpoint, over transport: RPCTransport, within timeout: Duration = .seconds(5)
  ) async throws -> (GrenacheError?, Duration) {
    let client = try await directClient(try authority.client()) { $0.transport = transport }
    let start = ContinuousClock.now
    let error = await #expect(throws: GrenacheError.self) {
      try await client.requestRaw("rpc_test", hello, to: worker, within: timeout)
    }
    return (error, ContinuousClock.now - start)
  }

  @Test("nobody listens", arguments: [RPCTransport.wss, .https])
  func refused(_ transport: RPCTransport) async throws {
    let nobody = Endpoint(host: "127.0.0.1", port: 1)
    let (error, _) = try await error(calling: nobody, over: transport)
    #expect(error?.code == .workerUnreachable)
    #expect(error?.isRetryable == true)
    #expect(error?.cause?.stage == .connect)
  }

  @Test(
    "a black hole: connected, and then nothing, for as long as the deadline says",
    arguments: [RPCTransport.wss, .https])
  func blackHole(_ transport: RPCTransport) async throws {
    try await withHostileServer(.saysNothing) { worker in
      let (error, took) = try await error(
        calling: worker, over: transport, within: .milliseconds(300))
      #expect(error?.code == .deadlineExceeded)
      #expect(took >= .milliseconds(290))
    }
  }

  @Test(
    "a peer that closes, or resets, at once",
    arguments: [RPCTransport.wss, .https], [HostileServer.Manner.closesAtOnce, .resetsAtOnce])
  func closes(_ transport: RPCTransport, _ manner: HostileServer.Manner) async throws {
    try await withHostileServer(manner) { worker in
      let (error, _) = try await error(calling: worker, over: transport)
      #expect(error?.cause != nil)
      #expect([.workerUnreachable, .workerNotTrusted].contains(error?.code))
    }
  }

  @Test(
    "a connection that is reset in the middle of calls fails those, and none after them",
    arguments: [RPCTransport.wss, .https])
  func resets(_ transport: RPCTransport) async throws {
    let begun = Tally()
    let waiting = waitingService(begun: begun, cancelled: Tally())
    let fast = RPCService(raw: "fast") { $0.payload }
    try await withServer([waiting, fast], tls: try authority.worker("*")) { worker in
      let relay = try TCPRelay(to: worker)
      let client = try await directClient(try authority.client()) { $0.transport = transport }
      let calls = (0..<3).map { _ in
        Task {
          await grenacheError {
            _ = try await client.requestRaw("rpc_test", hello, to: relay.endpoint)
          }
        }
      }
      await begun.reaches(3)
      relay.reset()
      for call in calls { #expect(await call.value?.code == .connectionLost) }
      #expect(try await client.requestRaw("fast", hello, to: relay.endpoint).result == hello)
      await client.close()
      relay.stop()
    }
  }

  @Test(
    "P17 a worker whose certificate has expired gets no call, and the reason is named",
    arguments: [RPCTransport.wss, .https])
  func expired(_ transport: RPCTransport) async throws {
    let asked = Mutex(0)
    // No server of ours begins with such a certificate.
    let context = try TLSContext(GeneratedCertificates.configuration("expired"), isChecked: false)
    let server = try await HTTPServer(
      on: .loopback(port: 0), context: context, configuration: HTTPServerConfiguration(),
      handlers: HTTPServerHandlers(
        respond: { _ in
          asked.withLock { $0 += 1 }
          return HTTPServerResponse(.ok)
        },
        openWebSocket: { _, _ in
          asked.withLock { $0 += 1 }
          return nil
        }),
      group: EventLoopGroup.shared(), logger: quietLogger)
    let client = try await directClient(try GeneratedCertificates.configuration("client")) {
      $0.transport = transport
    }
    let error = await grenacheError {
      _ = try await client.requestRaw("rpc_test", hello, to: Endpoint(server.localAddress))
    }
    #expect(error?.code == .workerNotTrusted)
    #expect(error?.cause?.tls?.code == .expired)
    #expect(asked.withLock { $0 } == 0)
    await client.close()
    await server.shutDown(within: .zero)
  }

  @Test(
    "garbage in place of TLS", arguments: [RPCTransport.wss, .https],
    ["HTTP/1.1 400 Bad Request\r\n\r\n", "\u{0}\u{1}\u{2}garbage", "SSH-2.0-x\r\n"])
  func garbage(_ transport: RPCTransport, _ text: String) async throws {
    try await withHostileServer(.says(Array(text.utf8))) { worker in
      let (error, _) = try await error(calling: worker, over: transport)
      #expect(error?.code == .workerNotTrusted)
      #expect(error?.cause?.tls?.code == .notTLS)
    }
  }

  @Test(
    "P20 a worker of another service gets no byte of the call, and is named",
    arguments: [RPCTransport.wss, .https])
  func impostor(_ transport: RPCTransport) async throws {
    let calls = Mutex(0)
    let service = RPCService(raw: "rpc_test") { request in
      calls.withLock { $0 += 1 }
      return request.payload
    }
    try await withServer([service], tls: try authority.worker("other")) { worker in
      let (error, _) = try await error(calling: worker, over: transport)
      #expect(error?.code == .workerNotTrusted)
      let tls = try #require(error?.cause?.tls)
      #expect(tls.code == .nameMismatch)
      #expect(tls.expectedNames.first == "URI:grenache:rpc_test")
      #expect(tls.presentedNames == ["URI:grenache:other"])
    }
    #expect(calls.withLock { $0 } == 0)
  }

  @Test(
    "P20 a certificate for the address proves nothing where a lookup has named the address",
    arguments: [RPCTransport.wss, .https], [false, true])
  func impostorFound(_ transport: RPCTransport, _ acceptsByAddress: Bool) async throws {
    let calls = Mutex(0)
    let service = RPCService(
      raw: "rpc_test",
      { request in
        calls.withLock { $0 += 1 }
        return request.payload
      }, stream: { _, _ in calls.withLock { $0 += 1 } })
    let payload = hello
    let authority = authority
    try await withServer([service], tls: try authority.host(services: ["other"])) { worker in
      let grape = try await FixedGrape(tls: try authority.host())
      grape.answer([worker])
      let link = try await Link(
        LinkConfiguration(grapes: [grape.endpoint], tls: try authority.client()),
        logger: quietLogger)
      var configuration = PeerRPCClientConfiguration()
      configuration.transport = transport
      configuration.acceptsInsecureWorkersByAddress = acceptsByAddress
      let client = await PeerRPCClient(link: link, configuration: configuration)
      let attempts: [@Sendable () async throws -> Void] = [
        { _ = try await client.requestRaw("rpc_test", payload) },
        { _ = try await client.mapRaw("rpc_test", payload)[0].result.get() },
        {
          try await client.stream("rpc_test") { stream in
            await stream.finish()
            for try await _ in try await stream.incoming() {}
          }
        },
      ]
      for attempt in attempts {
        if acceptsByAddress {
          try await attempt()
        } else {
          let error = await #expect(throws: GrenacheError.self) { try await attempt() }
          #expect(error?.code == .workerNotTrusted)
          #expect(error?.cause?.tls?.expectedNames == ["URI:grenache:rpc_test"])
        }
      }
      #expect(calls.withLock { $0 } == (acceptsByAddress ? 3 : 0))
      // Who names the worker means the address.
      _ = try await client.requestRaw("rpc_test", payload, to: worker)
      await client.close()
      await grape.stop()
    }
  }

  @Test(
    "a worker that closes in the middle of its answer, while others go on",
    arguments: [RPCTransport.wss, .https])
  func midAnswer(_ transport: RPCTransport) async throws {
    let context = try TLSContext(authority.worker("rpc_test"))
    let server = try await HTTPServer(
      on: .loopback(port: 0), context: context, configuration: HTTPServerConfiguration(),
      handlers: HTTPServerHandlers(
        respond: { _ in HTTPServerResponse(.notFound) },
        stream: { _ in
          { _, _, writer in
            try? await writer.write(Array("[".utf8))
            await writer.abort()
          }
        }, openWebSocket: { _, _ in HalfFrameHandler() }),
      group: EventLoopGroup.shared(), logger: quietLogger)
    try await withServer([echo], tls: try authority.worker("rpc_test")) { good in
      let client = try await directClient(try authority.client()) { $0.transport = transport }
      async let reply = client.requestRaw("rpc_test", hello, to: good)
      let (error, _) = try await error(calling: Endpoint(server.localAddress), over: transport)
      #expect(error?.code == .connectionLost)
      #expect(try await reply.result == hello)
    }
    await server.shutDown(within: .zero)
  }

  @Test("a worker that stops reading fills a bounded buffer: what it does not take is never sent")
  func stalled() async throws {
    let (counts, counting) = AsyncStream.makeStream(of: Int.self)
    let context = try TLSContext(authority.worker("rpc_test"))
    let server = try await HTTPServer(
      on: .loopback(port: 0), context: context, configuration: HTTPServerConfiguration(),
      handlers: HTTPServerHandlers(
        respond: { _ in HTTPServerResponse(.notFound) },
        openWebSocket: { _, _ in StalledHandler { counting.yield($0) } }),
      group: EventLoopGroup(count: 1), logger: quietLogger)
    let worker = Endpoint(server.localAddress)
    let payload = Array("\"\(String(repeating: "x", count: 900_000))\"".utf8)
    let client = try await directClient(try authority.client()) { $0.connectionsPerWorkerMax = 1 }
    let codes = await withTaskGroup(of: GrenacheError.Code?.self) { group in
      for _ in 0..<60 {
        group.addTask {
          do throws(GrenacheError) {
            _ = try await client.requestRaw(
              "rpc_test", payload, to: worker, within: .milliseconds(700))
            return nil
          } catch {
            return error.code
          }
        }
      }
      return await group.reduce(into: Set<GrenacheError.Code?>()) { $0.insert($1) }
    }
    #expect(codes == [.deadlineExceeded])
    // The worker reads on now, and sees only what had been sent: the kernel's share and the buffer's.
    await client.close()
    var received = 60
    for await count in counts {
      received = count
      break
    }
    #expect(received < 30)
    await server.shutDown(within: .zero)
  }

  @Test("a connection that has closed makes room for another one, though others are open")
  func replacedConnection() async throws {
    let context = try TLSContext(authority.worker("rpc_test"))
    let server = try await HTTPServer(
      on: .loopback(port: 0), context: context, configuration: HTTPServerConfiguration(),
      handlers: HTTPServerHandlers(
        respond: { _ in HTTPServerResponse(.notFound) },
        openWebSocket: { request, _ in PortHandler(request.remoteAddress.port) }),
      group: EventLoopGroup(count: 1), logger: quietLogger)
    let worker = Endpoint(server.localAddress)
    let client = try await directClient(try authority.client()) {
      $0.connectionsPerWorkerMax = 2
      $0.callsPerConnection = 1
    }
    let hang = Array("\"hang\"".utf8)
    let hanging = Task { try await client.requestRaw("rpc_test", hang, to: worker) }
    /// The ports of this side from which calls have come, until there are so many.
    @Sendable func ports(_ count: Int) async throws -> Set<[UInt8]> {
      var ports: Set<[UInt8]> = []
      let end = ContinuousClock.now + .seconds(20)
      while ports.count < count, ContinuousClock.now < end {
        let answer = try await client.requestRaw("rpc_test", Array("\"port\"".utf8), to: worker)
        ports.insert(answer.result)
      }
      return ports
    }
    let before = try await ports(2)
    let error = await #expect(throws: GrenacheError.self) {
      try await client.requestRaw("rpc_test", Array("\"close\"".utf8), to: worker)
    }
    #expect(error?.code == .connectionLost)
    #expect(try await ports(2).subtracting(before).count == 1)
    hanging.cancel()
    await client.close()
    await server.shutDown(within: .zero)
  }

  @Test("a burst of more than the buffer holds waits its turn and completes")
  func burst() async throws {
    let payload = Array("\"\(String(repeating: "x", count: 100_000))\"".utf8)
    try await withServer([echo], tls: try authority.worker("rpc_test")) { worker in
      let client = try await directClient(try authority.client()) { $0.connectionsPerWorkerMax = 1 }
      try await withThrowingTaskGroup(of: Bool.self) { group in
        for _ in 0..<200 {
          group.addTask {
            try await client.requestRaw("rpc_test", payload, to: worker).result == payload
          }
        }
        for try await isRight in group { #expect(isRight) }
      }
    }
  }

  @Test("a payload that is not JSON is refused before anything is sent")
  func payload() async throws {
    let client = try await directClient(try authority.client())
    for payload in ["", "{", "1 2", "hello", "\"\u{1}\""] {
      let error = await #expect(throws: GrenacheError.self) {
        try await client.requestRaw(
          "x", Array(payload.utf8), to: Endpoint(host: "127.0.0.1", port: 1))
      }
      #expect(error?.code == .invalidPayload)
    }
  }

  @Test(
    "cancelling the task ends the call at once, whatever the handler does",
    arguments: [RPCTransport.wss, .https])
  func cancellation(_ transport: RPCTransport) async throws {
    let (begun, gate) = (Tally(), Tally())
    let service = RPCService(raw: "rpc_test") { request in
      await begun.add()
      await gate.reachesThoughCancelled(1)
      return request.payload
    }
    try await withServer([service], tls: try authority.worker("rpc_test")) { worker in
      let client = try await directClient(try authority.client()) { $0.transport = transport }
      let call = Task { try await client.requestRaw("rpc_test", Array("1".utf8), to: worker) }
      await begun.reaches(1)
      let start = ContinuousClock.now
      call.cancel()
      let error = await #expect(throws: GrenacheError.self) { try await call.value }
      #expect(error?.code == .cancelled)
      #expect(ContinuousClock.now - start < .seconds(2))
      await gate.add()
    }
  }

  @Test("a caller in a hurry does not fail those who wait for the same connection")
  func sharedConnect() async throws {
    try await withServer([echo], tls: try authority.worker("rpc_test")) { worker in
      let client = try await directClient(try authority.client())
      let payload = hello
      let hurried = Task {
        try? await client.requestRaw("rpc_test", payload, to: worker, within: .microseconds(100))
      }
      let patient = try await client.requestRaw("rpc_test", payload, to: worker)
      #expect(patient.result == payload)
      _ = await hurried.value
    }
  }

  @Test(
    "a deadline ends a call that a handler does not answer", arguments: [RPCTransport.wss, .https])
  func deadline(_ transport: RPCTransport) async throws {
    let gate = Tally()
    let service = RPCService(raw: "rpc_test") { request in
      await gate.reachesThoughCancelled(1)
      return request.payload
    }
    try await withServer([service], tls: try authority.worker("rpc_test")) { worker in
      let (error, _) = try await error(
        calling: worker, over: transport, within: .milliseconds(200))
      #expect(error?.code == .deadlineExceeded)
      await gate.add()
    }
  }
}

/// Takes one message, then none for a while, then the rest, and tells at the end how many there were.
private final class StalledHandler: WebSocketHandler, LoopTimerTarget {
  private let tell: (Int) -> Void
  private var count = 0
  private var connection: WebSocketConnection?
  private lazy var timer = TargetTimer(self)

  init(_ tell: @escaping (Int) -> Void) { self.tell = tell }

  func received(
    _ kind: WebSocketMessageKind, _ payload: Span<UInt8>, from connection: WebSocketConnection,
    on loop: isolated EventLoop
  ) {
    count += 1
    guard count == 1 else { return }
    self.connection = connection
    connection.pauseReading(on: loop)
    loop.core.arm(timer, after: .seconds(2))
  }

  func timerFired(_ timer: LoopTimer, on loop: isolated EventLoop) {
    connection?.resumeReading(on: loop)
  }

  func closed(
    _ connection: WebSocketConnection, _ closure: WebSocketClosure, on loop: isolated EventLoop
  ) {
    self.connection = nil
    tell(count)
  }
}

/// Answers with the port of the caller, not at all, or by closing, as the call says.
private final class PortHandler: WebSocketHandler {
  private let port: UInt16

  init(_ port: UInt16) { self.port = port }

  func received(
    _ kind: WebSocketMessageKind, _ payload: Span<UInt8>, from connection: WebSocketConnection,
    on loop: isolated EventLoop
  ) {
    guard let envelope = RPCRequestEnvelope(payload, checksUTF8: false) else { return }
    switch String(decoding: envelope.payload.bytes(in: payload), as: UTF8.self) {
    case "\"port\"":
      var reply: [UInt8] = []
      RPCReplyEnvelope.append(
        rid: envelope.rid.bytes(in: payload), result: Array("\(port)".utf8), to: &reply)
      connection.send(.text, reply.span, on: loop)
    case "\"close\"":
      connection.close(.normal, on: loop)
    default:
      break
    }
  }
}

/// Answers with the first half of a frame and closes.
private final class HalfFrameHandler: WebSocketHandler {
  func received(
    _ kind: WebSocketMessageKind, _ payload: Span<UInt8>, from connection: WebSocketConnection,
    on loop: isolated EventLoop
  ) {
    connection.send(.text, payloadBytes: 100, on: loop) { output in output += [0x5b, 0x22] }
    connection.close(.normal, on: loop)
  }
}
