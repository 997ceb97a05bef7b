import Grenache
import GrenacheAccess
import GrenacheFraming
import GrenacheIO
import GrenacheTLS
import GrenacheTransport
import Logging
import Synchronization
import TestSupport
import Testing

@testable import Grenache

@Suite("P26 Who may publish, and who may subscribe", .timeLimit(.minutes(1)))
struct PubSubAccessTests: NewsSuite {
  let authority: TestAuthority

  init() throws { authority = try TestAuthority() }

  @Test(
    "P20 a publisher whose certificate covers its address and not the key is not listened to",
    arguments: [false, true])
  func impostor(_ acceptsByAddress: Bool) async throws {
    let impostor = try await RunningPub(
      "news", PeerPubConfiguration(port: 0, tls: try authority.host(services: ["other"])))
    let news = try await RunningPub("news", try secure())
    let grape = try await FixedGrape(tls: try authority.host())
    grape.answer([impostor.endpoint, news.endpoint])
    let sub = try await subscriber(grape) {
      $0.acceptsInsecurePublishersByAddress = acceptsByAddress
    }
    _ = try await events(of: sub, 50) {
      try await news.subscribers(1)
      if acceptsByAddress { try await impostor.subscribers(1) }
      for number in 0..<50 {
        try await news.pub.publish(PubMessage("\(number)"))
        #expect(await impostor.pub.subscriberCount == (acceptsByAddress ? 1 : 0))
      }
    }
    await impostor.stop()
    await news.stop()
    await grape.stop()
  }

  @Test("P21 tlsReloaded hears of a publisher's certificates, good and bad")
  func reloaded() async throws {
    let folder = try TemporaryFolder()
    func write() throws {
      try authority.authority.write(
        .init(commonName: "news", services: ["news"]), toDirectory: folder.path)
    }
    try write()
    let (outcomes, told) = AsyncStream.makeStream(of: TLSReloadOutcome.self)
    let news = try await RunningPub(
      "news", PeerPubConfiguration(port: 0, tls: .directory(folder.path)),
      configure: { $0.tlsReloaded = { told.yield($0) } })
    // Before the files are complete, one or another set may fail.
    try write()
    for await outcome in outcomes {
      if case .loaded = outcome { break }
    }
    try folder.remove("key.pem")
    for await outcome in outcomes {
      if case .failed = outcome { break }
    }
    await news.stop()
  }

  @Test("P26 a policy decides who may publish, and a change counts at once")
  func publishers() async throws {
    func policy(_ keys: String) -> AccessPolicy {
      AccessPolicy([
        .init("news", allow: [.publish], on: .patterns([keys]), to: [.uri("grenache:news")])
      ])
    }
    let news = try await RunningPub("news", try secure())
    let other = try await RunningPub(
      "news", PeerPubConfiguration(port: 0, tls: try authority.worker("*")))
    let grape = try await FixedGrape(tls: try authority.host())
    grape.answer([other.endpoint, news.endpoint])
    let access = AccessControl(policy("news"))
    let sub = try await subscriber(grape) { $0.access = access }
    let running = Task { await sub.run() }
    var heard = sub.makeAsyncIterator()
    try await news.subscribers(1)
    try await news.pub.publish(PubMessage("first"))
    guard case .message(let first, _)? = await heard.next() else { throw CancellationError() }
    #expect(first.text == "first")
    // Its certificate covers every key, and the rule is about another one.
    #expect(await other.pub.subscriberCount == 0)
    access.policy = policy("others")
    try await news.pub.publish(PubMessage("second"))
    try await news.subscribers(0)
    access.policy = policy("news")
    try await news.subscribers(1)
    try await news.pub.publish(PubMessage("third"))
    while let event = await heard.next() {
      if case .message(let message, _) = event, message.text == "third" { break }
    }
    running.cancel()
    await running.value
    await news.stop()
    await other.stop()
    await grape.stop()
  }

  @Test("P25 under a policy, too, a subscriber resumes its session with a publisher")
  func resumption() async throws {
    let resumed = Mutex<[Bool?]>([])
    let news = try await ScriptedPublisher(tls: try authority.worker("news")) { connection, loop in
      resumed.withLock { $0.append(connection.negotiated?.isResumed) }
      connection.close(.goingAway, on: loop)
    }
    let grape = try await FixedGrape(tls: try authority.host())
    grape.answer([news.endpoint])
    let sub = try await subscriber(grape) { configuration in
      configuration.access = AccessControl(
        AccessPolicy([.init("all", allow: [.publish], on: .patterns(["*"]), to: [.anyone])]))
      configuration.reconnectDelayMax = .milliseconds(100)
    }
    let running = Task { await sub.run() }
    try await eventually { resumed.withLock { $0.count >= 3 } }
    #expect(resumed.withLock { Array($0.prefix(3)) } == [false, true, true])
    running.cancel()
    await running.value
    await news.stop()
    await grape.stop()
  }

  @Test("P26 a publisher that says nothing is left within a second of the policy's change")
  func idlePublisher() async throws {
    let news = try await RunningPub("news", try secure())
    let grape = try await FixedGrape(tls: try authority.host())
    grape.answer([news.endpoint])
    let access = AccessControl(
      AccessPolicy([
        .init("news", allow: [.publish], on: .patterns(["news"]), to: [.uri("grenache:news")])
      ]))
    let sub = try await subscriber(grape) { $0.access = access }
    let running = Task { await sub.run() }
    try await news.subscribers(1)
    // Another subscriber's connection of the same link is nobody's to close.
    let other = try await PeerSub("news", link: sub.link)
    let otherRunning = Task { await other.run() }
    try await news.subscribers(2)
    try await eventually { await !sub.publishers.isEmpty }
    // A change that leaves the right leaves the connection.
    access.policy = AccessPolicy([
      .init("all", allow: [.publish], on: .patterns(["*"]), to: [.anyone])
    ])
    try await eventually { await !sub.publishers.isEmpty }
    let start = ContinuousClock.now
    access.policy = AccessPolicy([])
    try await news.subscribers(1)
    #expect(ContinuousClock.now - start < .seconds(2))
    #expect(await sub.publishers.isEmpty)
    #expect(await other.publishers == [news.endpoint])
    running.cancel()
    await running.value
    otherRunning.cancel()
    await otherRunning.value
    await news.stop()
    await grape.stop()
  }

  @Test("the policy decides who may subscribe")
  func denied() async throws {
    var configuration = try secure()
    configuration.access = AccessControl(AccessPolicy([]))
    let log = LogRecorder()
    let news = try await RunningPub("news", configuration, logger: log.logger)
    for _ in 0..<3 {
      let error = await #expect(throws: TransportError.self) {
        _ = try await RawSubscriber(to: news.endpoint, tls: try authority.client())
      }
      #expect(error?.code == .upgradeForbidden)
    }
    // Whoever comes again and again is one line.
    let lines = log.lines("denied: no rule of the access policy allows it")
    #expect(lines.count == 1)
    #expect(lines.first?["right"] == "subscribe" && lines.first?["service"] == "news")
    let who = lines.first?["by"]?.description ?? ""
    #expect(who.contains("client.test"), "\(lines)")
    await news.stop()
  }

  @Test("who may subscribe without a certificate: nobody, or everybody where a long name says so")
  func anonymous() async throws {
    for isAdmitted in [false, true] {
      var configuration = try secure()
      configuration.tls?.clientCertificates = .none
      configuration.acceptsInsecureAnonymousSubscribers = isAdmitted
      let news = try await RunningPub("news", configuration)
      var code: TransportError.Code?
      do {
        _ = try await RawSubscriber(to: news.endpoint, tls: try authority.client())
      } catch {
        code = (error as? TransportError)?.code
      }
      #expect(code == (isAdmitted ? nil : .upgradeForbidden))
      await news.stop()
    }
  }

  @Test("a subscriber that may not subscribe is told that")
  func toldDenied() async throws {
    var configuration = try secure()
    configuration.access = AccessControl(AccessPolicy([]))
    let news = try await RunningPub("news", configuration)
    let grape = try await FixedGrape(tls: try authority.host())
    grape.answer([news.endpoint])
    let codes = Mutex<[GrenacheError.Code]>([])
    let sub = try await subscriber(grape) {
      $0.failed = { failure in codes.withLock { $0.append(failure.error.code) } }
    }
    let running = Task { await sub.run() }
    try await eventually { codes.withLock { !$0.isEmpty } }
    #expect(codes.withLock { $0 } == [.notPermitted])
    running.cancel()
    await running.value
    await news.stop()
    await grape.stop()
  }
}

/// A publisher that goes on speaking and never reads, so that it answers no close frame either.
private final class DeafPublisher: WebSocketHandler {
  private let number: Int

  init(_ number: Int) { self.number = number }

  func passEnded(of connection: WebSocketConnection, on loop: isolated EventLoop) {
    connection.pauseReading(on: loop)
    Task { await speak(to: connection, on: loop) }
  }

  func received(
    _ kind: WebSocketMessageKind, _ payload: Span<UInt8>, from connection: WebSocketConnection,
    on loop: isolated EventLoop
  ) {}

  private func speak(to connection: WebSocketConnection, on loop: isolated EventLoop) async {
    while connection.isOpen {
      connection.send(.text, Array("\(number)".utf8).span, on: loop)
      try? await Task.sleep(for: .milliseconds(20))
    }
  }
}

@Suite("P26 A publisher that may not publish any more and does not answer", .timeLimit(.minutes(1)))
struct DeafPublisherTests {
  @Test("nothing of it is heard from the change on, and its connection is broken off")
  func left() async throws {
    let authority = try TestAuthority()
    let connections = Mutex(0)
    let server = try await HTTPServer(
      on: .loopback(port: 0), context: try TLSContext(try authority.worker("news")),
      configuration: HTTPServerConfiguration(),
      handlers: HTTPServerHandlers(
        respond: { _ in HTTPServerResponse(.upgradeRequired) },
        openWebSocket: { _, _ in
          DeafPublisher(
            connections.withLock { count in
              count += 1
              return count
            })
        }),
      group: EventLoopGroup.shared(), logger: quietLogger)
    let grape = try await FixedGrape(tls: try authority.host())
    grape.answer([Endpoint(server.localAddress)])
    func policy(_ key: String) -> AccessPolicy {
      AccessPolicy([.init("news", allow: [.publish], on: .patterns([key]), to: [.anyone])])
    }
    let access = AccessControl(policy("news"))
    let sub = try await subscriber(grape.endpoint, try authority.client()) { $0.access = access }
    let running = Task { await sub.run() }
    var heard = sub.makeAsyncIterator()
    #expect(await heard.next().flatMap(Self.text) == "1")
    access.policy = policy("others")
    let start = ContinuousClock.now
    try await eventually { await sub.publishers.isEmpty }
    #expect(ContinuousClock.now - start < .seconds(1))
    access.policy = policy("news")
    // What was heard before the change; then, of a new connection, a gap and what is said there.
    var isLeft = false
    while let event = await heard.next() {
      guard let text = Self.text(event) else {
        isLeft = true
        continue
      }
      #expect(text == (isLeft ? "2" : "1"))
      if isLeft { break }
    }
    running.cancel()
    await running.value
    await server.shutDown(within: .zero)
    await grape.stop()
  }

  private static func text(_ event: SubscriptionEvent) -> String? {
    guard case .message(let message, _) = event else { return nil }
    return message.text
  }
}
