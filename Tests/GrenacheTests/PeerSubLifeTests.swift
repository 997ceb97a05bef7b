import Foundation
import GrenacheIO
import GrenacheTLS
import GrenacheTransport
import Logging
import Synchronization
import TestSupport
import Testing

@testable import Grenache

@Suite("A subscriber's life", .timeLimit(.minutes(1)))
struct PeerSubLifeTests {
  let authority: TestAuthority

  init() throws { authority = try TestAuthority() }

  @Test("P22 a publisher whose certificate gets revoked is left")
  func revoked() async throws {
    let source = try GeneratedCertificates.directory("checks-revocation")
    let folder = try TemporaryFolder(copying: source)
    try folder.remove("crl.pem")
    let news = try await RunningPub(
      "rpc_test",
      PeerPubConfiguration(port: 0, tls: try GeneratedCertificates.configuration("revoked")))
    let grape = try await FixedGrape(
      tls: try GeneratedCertificates.configuration("checks-revocation"))
    grape.answer([news.endpoint])
    let link = try await Link(
      LinkConfiguration(grapes: [grape.endpoint], tls: .directory(folder.path)),
      logger: quietLogger)
    let sub = try await PeerSub("rpc_test", link: link)
    let running = Task { await sub.run() }
    try await news.subscribers(1)
    try folder.copy("\(source)/crl.pem")
    try await eventually("the end of the connection") { await news.pub.subscriberCount == 0 }
    #expect(await sub.publishers.isEmpty)
    running.cancel()
    await running.value
    await news.stop()
    await grape.stop()
  }

  @Test("P21 a renewed certificate is shown from the next connection on")
  func renewed() async throws {
    let folder = try TemporaryFolder()
    let leaf = CertificateAuthority.Leaf(commonName: "client", dnsNames: ["client.test"])
    try authority.authority.write(leaf, toDirectory: folder.path)
    let news = try await ScriptedPublisher(tls: try authority.worker("news")) {
      $0.close(.goingAway, on: $1)
    }
    let grape = try await FixedGrape(tls: try authority.host())
    grape.answer([news.endpoint])
    let sub = try await subscriber(grape.endpoint, .directory(folder.path)) {
      $0.reconnectDelayMax = .milliseconds(100)
    }
    let running = Task { await sub.run() }
    try await eventually { news.callers.count >= 1 }
    try authority.authority.write(leaf, toDirectory: folder.path)
    try await eventually("the new certificate") {
      Set(news.callers.map { $0?.fingerprintSHA256 }).count == 2
    }
    running.cancel()
    await running.value
    await news.stop()
    await grape.stop()
  }

  @Test("it can be run again, and goes on where it was")
  func runAgain() async throws {
    let news = try await RunningPub(
      "news", PeerPubConfiguration(port: 0, tls: try authority.worker("news")))
    let grape = try await FixedGrape(tls: try authority.host())
    grape.answer([news.endpoint])
    let sub = try await subscriber(grape.endpoint, try authority.client())
    var heard: [String] = []
    for text in ["one", "two"] {
      let running = Task { await sub.run() }
      try await eventually("following") { await news.pub.subscriberCount == 1 }
      try await news.pub.publish(PubMessage(text))
      for await event in sub {
        heard.append(event.summary)
        if event.summary == text { break }
      }
      running.cancel()
      await running.value
      try await eventually { await news.pub.subscriberCount == 0 }
      // Nobody listens.
      try await news.pub.publish(PubMessage("between"))
      guard heard.contains(text) else { break }
    }
    #expect(heard == ["one", "between", "two"])
    await news.stop()
    await grape.stop()
  }

  @Test("each of several readers gets some of the events, and the end")
  func readers() async throws {
    let news = try await RunningPub(
      "news", PeerPubConfiguration(port: 0, tls: try authority.worker("news")))
    let grape = try await FixedGrape(tls: try authority.host())
    grape.answer([news.endpoint])
    let sub = try await subscriber(grape.endpoint, try authority.client())
    let running = Task { await sub.run() }
    try await news.subscribers(1)
    let (texts, heard) = AsyncStream.makeStream(of: String.self)
    let readers = (0..<3).map { _ in
      Task {
        for await event in sub { heard.yield(event.summary) }
        heard.yield("end")
      }
    }
    var all: [String] = []
    var iterator = texts.makeAsyncIterator()
    for number in 0..<30 {
      try await news.pub.publish(PubMessage("\(number)"))
      all.append(await iterator.next() ?? "")
    }
    #expect(all == (0..<30).map { "\($0)" })
    // One that gives up takes nothing with it.
    readers[0].cancel()
    await readers[0].value
    #expect(await iterator.next() == "end")
    for number in 30..<40 {
      try await news.pub.publish(PubMessage("\(number)"))
      #expect(await iterator.next() == "\(number)")
    }
    running.cancel()
    await running.value
    let ended = Flag()
    let ends = Task {
      for reader in readers { await reader.value }
      ended.set()
    }
    try await eventually("the end of the reader") { ended.isSet }
    ends.cancel()
    await news.stop()
    await grape.stop()
  }
}

@Suite("What is in a subscriber's way", .timeLimit(.minutes(1)))
struct SubscriptionFailureTests {
  let authority: TestAuthority

  init() throws { authority = try TestAuthority() }

  private func subscriber(
    _ grape: Endpoint, _ log: LogRecorder,
    configure: (inout PeerSubConfiguration) -> Void = { _ in }
  ) async throws -> PeerSub {
    let link = try await Link(
      LinkConfiguration(grapes: [grape], tls: try authority.client()), logger: log.logger)
    var configuration = PeerSubConfiguration()
    configuration.lookupInterval = .milliseconds(50)
    configuration.reconnectDelayMin = .milliseconds(10)
    configuration.reconnectDelayMax = .milliseconds(50)
    configure(&configuration)
    return try await PeerSub("news", link: link, configuration: configuration)
  }

  @Test("a publisher that cannot be connected to is logged once, with why")
  func publisher() async throws {
    let other = try await RunningPub(
      "news", PeerPubConfiguration(port: 0, tls: try authority.worker("other")))
    let grape = try await FixedGrape(tls: try authority.host())
    grape.answer([other.endpoint])
    let log = LogRecorder()
    let sub = try await subscriber(grape.endpoint, log)
    let running = Task { await sub.run() }
    let lookups = grape.lookups
    try await eventually("a line in the log") {
      !log.lines("a publisher cannot be followed").isEmpty && grape.lookups > lookups + 10
    }
    let lines = log.lines("a publisher cannot be followed")
    #expect(lines.count == 1)
    #expect(log.level(of: "a publisher cannot be followed") == .warning)
    #expect(lines.first?["publisher"]?.description == "\(other.endpoint)")
    #expect(lines.first?["error"]?.description.contains("grenache:news") == true, "\(lines)")
    running.cancel()
    await running.value
    await other.stop()
    await grape.stop()
  }

  @Test("the program is told what is in the way, and sees it until it is gone")
  func program() async throws {
    let grape = try await FixedGrape(tls: try authority.host())
    let closed = Endpoint(host: "127.0.0.1", port: 1)
    let news = try await RunningPub(
      "news", PeerPubConfiguration(port: 0, tls: try authority.worker("news")))
    grape.answer([news.endpoint, closed])
    let told = Mutex<[SubscriptionFailure]>([])
    let sub = try await subscriber(grape.endpoint, LogRecorder()) {
      $0.failed = { failure in told.withLock { $0.append(failure) } }
    }
    let running = Task { await sub.run() }
    try await eventually { await sub.failures.map(\.publisher) == [closed] }
    try await news.subscribers(1)
    #expect(await sub.failures.first?.error.code == .publisherUnreachable)
    #expect(await sub.failures.first?.error.isRetryable == true)
    #expect(told.withLock { $0.map(\.publisher) } == [closed])
    grape.answer([news.endpoint])
    try await eventually("the end of the failures") { await sub.failures.isEmpty }
    // Nobody can say who is there.
    await grape.stop()
    try await eventually { await sub.failures.map(\.publisher) == [nil] }
    #expect(await sub.failures.first?.error.code == .grapeUnreachable)
    #expect(told.withLock { $0.last?.publisher } == .some(nil))
    #expect(await sub.publishers == [news.endpoint])
    running.cancel()
    await running.value
    await news.stop()
  }

  @Test("publishers beyond the limit are left out, which is logged once", arguments: [2, 3])
  func crowd(_ count: Int) async throws {
    let log = LogRecorder()
    let grape = try await FixedGrape(tls: try authority.host())
    var publishers: [RunningPub] = []
    for _ in 0..<count {
      publishers.append(
        try await RunningPub(
          "news", PeerPubConfiguration(port: 0, tls: try authority.worker("news"))))
    }
    grape.answer(publishers.map(\.endpoint))
    let sub = try await subscriber(grape.endpoint, log) { $0.publishersMax = 2 }
    let running = Task { await sub.run() }
    try await eventually { await sub.publishers.count == 2 }
    try await eventually { grape.lookups >= 5 }
    #expect(await sub.publishers.count == 2)
    #expect(log.lines("not all publishers are followed").count == count - 2)
    running.cancel()
    await running.value
    for publisher in publishers { await publisher.stop() }
    await grape.stop()
  }

  @Test("workers beyond the limit are left out of lookups, which is logged once")
  func workers() async throws {
    let log = LogRecorder()
    let grape = try await FixedGrape(tls: try authority.host())
    grape.answer((1...3).map { Endpoint(host: "10.0.0.1", port: $0) })
    var configuration = LinkConfiguration(grapes: [grape.endpoint], tls: try authority.client())
    configuration.cacheAge = .zero
    for (workersMax, lines) in [(4, 0), (3, 1), (2, 1)] {
      configuration.workersMax = workersMax
      let link = try await Link(configuration, logger: log.logger)
      let before = log.lines("as many are found as are taken; others are left out").count
      for _ in 0..<3 { _ = try await link.lookup("rpc_test") }
      let after = log.lines("as many are found as are taken; others are left out").count
      #expect(after - before == lines, "\(workersMax)")
    }
    await grape.stop()
  }

  @Test("a run whose name is longer than one may be is not followed", arguments: [255, 256])
  func longName(_ count: Int) async throws {
    let name = String(repeating: "x", count: count)
    let isClosed = Flag()
    let server = try await ScriptedPublisher(
      tls: try authority.worker("news"), subprotocols: [PubWire.subprotocol]
    ) { connection, loop in
      let opening = PubWire.control(.init(epoch: name, next: 1))
      connection.send(.text, opening.span, on: loop)
      connection.send(.text, Array("[1,null,\"one\"]".utf8).span, on: loop)
    } closed: {
      isClosed.set()
    }
    let grape = try await FixedGrape(tls: try authority.host())
    grape.answer([server.endpoint])
    let sub = try await subscriber(grape.endpoint, LogRecorder())
    let running = Task { await sub.run() }
    if count == 255 {
      var heard = sub.makeAsyncIterator()
      guard case .message(let message, _)? = await heard.next() else { throw CancellationError() }
      #expect(message.run == name)
      #expect(!isClosed.isSet)
    } else {
      try await eventually { isClosed.isSet }
    }
    running.cancel()
    await running.value
    await server.stop()
    await grape.stop()
  }

  @Test("grapes that cannot be asked are logged once, with why", arguments: [true, false])
  func grapes(_ isTrusted: Bool) async throws {
    let log = LogRecorder()
    let tls = try isTrusted ? authority.host() : TestAuthority().host()
    try await FakeGrape.with(tls, answer: { _, _ in (403, "no\u{1b}[2Jthing") }) { grape, _ in
      let sub = try await subscriber(grape, log)
      let running = Task { await sub.run() }
      let message = "who announces a key cannot be looked up"
      try await eventually("a line in the log") { !log.lines(message).isEmpty }
      let lines = log.lines(message)
      #expect(log.level(of: message) == .warning)
      #expect(lines.first?["key"]?.description == "news")
      let error = lines.first?["error"]?.description ?? ""
      #expect(error.contains(isTrusted ? "403: no\\u{1b}[2Jthing" : "TLS"), "\(lines)")
      running.cancel()
      await running.value
    }
  }
}
