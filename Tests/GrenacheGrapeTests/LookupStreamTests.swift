import GrenacheAccess
import GrenacheDHT
import GrenacheFraming
import GrenacheIO
import GrenacheTLS
import GrenacheTransport
import Logging
import TestSupport
import Testing

@testable import GrenacheGrape

private let svc = Array("svc".utf8)

/// A driver among scripted nodes, for code that is on no loop.
private struct LookingDriver: Sendable {
  let driver: LoopBound<DHTDriver>
  private let requests = RequestsInFlight(max: 10, perCallerMax: 10)

  init(_ configuration: DHTConfiguration) async throws {
    driver = try await EventLoopGroup.shared().next().run { loop in
      let driver = try DHTDriver(configuration, bindingTo: .loopback(port: 0))
      try driver.start(on: loop)
      return LoopBound(driver, on: loop)
    }
    let bound = driver
    try await eventually {
      await bound.loop.run { bound.get(on: $0).contacts.count == configuration.bootstrap.count }
    }
  }

  var inFlight: Int { requests.count }

  func stop() async {
    await driver.loop.run { loop in driver.get(on: loop).stop(on: loop) }
  }

  func keep(_ peer: DHTAddress) async {
    await driver.loop.run { loop in
      _ = driver.get(on: loop).keep(peer, of: svc, for: nil, on: loop)
    }
  }

  /// Begins a lookup; what it finds meanwhile, and what in all.
  func lookUp(
    within timeout: Duration = .seconds(30)
  ) throws -> (batches: AsyncStream<[String]>.Iterator, result: Task<GrapeLookup?, Never>) {
    let (batches, continuation) = AsyncStream.makeStream(of: [String].self)
    let place = try requests.enter(.address(DHTHost(ip: 0x0a00_0001)))
    let driver = driver
    let task = Task {
      await GrapeAPI.lookUp(
        svc, for: .loopback, within: timeout, place, driver, telling: continuation,
        on: driver.loop)
    }
    return (batches.makeAsyncIterator(), task)
  }
}

@Suite("Peers are handed on as a lookup finds them: the driver", .timeLimit(.minutes(2)))
struct PeersFoundTests {
  private let first = ScriptedPair.first
  private let second = ScriptedPair.second

  @Test("the quick node's at once, to who joins as well; the slow one's later; then from memory")
  func batches() async throws {
    try await ScriptedPair.with { nodes in
      let driver = try await LookingDriver(nodes.configuration)
      var one = try driver.lookUp()
      #expect(await one.batches.next() == [first.description])
      var two = try driver.lookUp()
      #expect(await two.batches.next() == [first.description], "what was found before")
      #expect(await nodes.quick.asked() == 1, "they share one lookup")
      await nodes.slow.release()
      for var lookup in [one, two] {
        #expect(await lookup.batches.next() == [second.description])
        #expect(await lookup.batches.next() == nil)
        #expect(await Set(lookup.result.value?.result.peers ?? []) == [first, second])
      }
      var three = try driver.lookUp()
      let known = await three.batches.next() ?? []
      #expect(Set(known) == [first.description, second.description])
      #expect(await three.result.value?.result.isCached == true)
      await driver.stop()
    }
  }

  @Test("what is kept here comes first, and nobody twice")
  func ownStore() async throws {
    try await ScriptedPair.with { nodes in
      let driver = try await LookingDriver(nodes.configuration)
      let own = DHTAddress(ip: 0x7f00_0001, port: 33)
      await driver.keep(own)
      await driver.keep(second)
      var lookup = try driver.lookUp()
      #expect(await Set(lookup.batches.next() ?? []) == [own.description, second.description])
      #expect(await lookup.batches.next() == [first.description])
      await nodes.slow.release()
      #expect(await lookup.batches.next() == nil)
      #expect(await lookup.result.value?.result.peers.count == 3)
      await driver.stop()
    }
  }

  @Test("who gives up, or has waited long enough, is told nothing; the lookup counts until its end")
  func cancelled() async throws {
    try await ScriptedPair.with { nodes in
      let driver = try await LookingDriver(nodes.configuration)
      var cancelled = try driver.lookUp()
      #expect(await cancelled.batches.next() == [first.description])
      cancelled.result.cancel()
      #expect(await cancelled.result.value == nil)
      #expect(await cancelled.batches.next() == nil)
      let late = try driver.lookUp(within: .milliseconds(10))
      #expect(await late.result.value == nil)
      #expect(driver.inFlight == 2)
      await nodes.slow.release()
      try await eventually { driver.inFlight == 0 }
      await driver.stop()
    }
  }

  @Test("as many peers as a result has, and not one more")
  func limit() {
    var told: [DHTAddress] = []
    let found = PeersFound { told += $0 }
    let peers = (1...1_001).map { DHTAddress(ip: 1, port: UInt16($0)) }
    found.add(Array(peers[..<999]))
    found.add(peers)
    #expect(told == Array(peers[..<PeersFound.peersMax]))
  }
}

@Suite("Peers are handed on as a lookup finds them: watch and HTTPS", .timeLimit(.minutes(2)))
struct LookupStreamTests {
  let authority: TestAuthority

  init() throws { authority = try TestAuthority() }

  private func withGrape<Result: Sendable>(
    among nodes: ScriptedPair, logger: Logger = quietLogger,
    configure: @escaping @Sendable (inout GrapeConfiguration) -> Void = { _ in },
    _ body: @escaping @Sendable (GrapeNode.Addresses, TLSConfiguration) async throws -> Result
  ) async throws -> Result {
    let client = try authority.client()
    let bootstrap = [nodes.quick, nodes.slow].map { Endpoint(SocketAddress($0.address)) }
    return try await GrenacheGrapeTests.withGrape(
      tls: try authority.host(), bootstrap: bootstrap, logger: logger,
      configure: {
        $0.dht = nodes.configuration
        configure(&$0)
      }
    ) { grape in
      let kept = try await KeptClient(client, grape.api)
      try await eventually { try await kept.status("contacts") == 2 }
      return try await body(grape, client)
    }
  }

  @Test("a watch tells the first peers at once and all of them later; nobody, when all were asked")
  func watch() async throws {
    try await ScriptedPair.with { nodes in
      try await withGrape(among: nodes) { grape, client in
        let watcher = try await Watcher.open(grape.api, as: client)
        try await watcher.send("{\"data\":\"none\"}")
        try await eventually { await nodes.slow.held() == [Array("none".utf8)] }
        try await watcher.send("{\"data\":\"svc\"}")
        #expect(
          try await watcher.next() == "{\"key\":\"svc\",\"peers\":[\"127.0.0.1:11\"]}")
        await nodes.slow.release()
        let rest = [try await watcher.next(), try await watcher.next()]
        #expect(
          Set(rest) == [
            "{\"key\":\"none\",\"peers\":[]}",
            "{\"key\":\"svc\",\"peers\":[\"127.0.0.1:11\",\"127.0.0.1:22\"]}",
          ])
        await watcher.close()
      }
    }
  }

  @Test("over HTTPS: a line for the first peers at once, to who joins as well; one for the others")
  func lines() async throws {
    try await ScriptedPair.with { nodes in
      try await withGrape(among: nodes) { grape, client in
        let (one, two) = (
          try await LineStream(client, grape.api), try await LineStream(client, grape.api)
        )
        for stream in [one, two] {
          let head = try await stream.ask("{\"rid\":\"1\",\"data\":\"svc\"}")
          #expect(head.status == .ok)
          #expect(head.fields["Content-Type"] == "application/x-ndjson")
          #expect(try await stream.next() == "[\"127.0.0.1:11\"]\n")
        }
        await nodes.slow.release()
        for stream in [one, two] {
          #expect(try await stream.next() == "[\"127.0.0.1:22\"]\n")
          #expect(try await stream.next() == nil)
        }
        let kept = try await LineStream(client, grape.api)
        _ = try await kept.ask("{\"data\":\"svc\"}")
        let all = try await kept.next() ?? ""
        #expect(all.hasSuffix("]\n") && all.contains(":11\"") && all.contains(":22\""))
        #expect(try await kept.next() == nil)
      }
    }
  }

  @Test("without the field the answer is what it always was, at the end of the lookup")
  func unchanged() async throws {
    try await ScriptedPair.with { nodes in
      try await withGrape(among: nodes, configure: { $0.lookupPatience = .seconds(30) }) {
        grape, client in
        async let answer = post("{\"data\":\"svc\"}", "/lookup", to: grape.api, as: client)
        try await eventually { await nodes.slow.held() == [svc] }
        await nodes.slow.release()
        let whole = try await answer
        #expect(whole.fields == ["Date", "Connection", "Keep-Alive", "Content-Length"])
        #expect(
          ["[\"127.0.0.1:11\",\"127.0.0.1:22\"]", "[\"127.0.0.1:22\",\"127.0.0.1:11\"]"]
            .contains(whole.body))
      }
    }
  }

  @Test(
    "P29 a node that is silent: after a while, or at the end of it, what is known; nobody is a 503",
    arguments: [(1_000, 30_000), (30_000, 1_000)] as [(Int, Int)])
  func silent(patience: Int, timeout: Int) async throws {
    try await ScriptedPair.with { nodes in
      try await withGrape(
        among: nodes,
        configure: {
          $0.lookupPatience = .milliseconds(patience)
          $0.requestTimeout = .milliseconds(timeout)
        }
      ) { grape, client in
        let start = ContinuousClock.now
        let answer = try await post("{\"data\":\"svc\"}", "/lookup", to: grape.api, as: client)
        #expect(answer.status == 200 && answer.body == "[\"127.0.0.1:11\"]")
        #expect(ContinuousClock.now - start < .seconds(8))
        #expect(await nodes.slow.held() == [svc], "the lookup goes on")
        await nodes.slow.release()
        // Nothing of that was remembered as the whole.
        let whole = try await post("{\"data\":\"svc\"}", "/lookup", to: grape.api, as: client)
        #expect(whole.body.contains(":11\"") && whole.body.contains(":22\""))
      }
    }
  }

  @Test("P29 of a lookup that takes long the first peers will do, whenever they are found")
  func late() async throws {
    let one = try await ScriptedNode.start(isHolding: true) {
      $0 == svc ? [ScriptedPair.first] : []
    }
    let two = try await ScriptedNode.start(isHolding: true) { _ in [] }
    let nodes = ScriptedPair(quick: one, slow: two)
    try await withGrape(
      among: nodes,
      configure: {
        $0.lookupPatience = .milliseconds(1)
        $0.requestTimeout = .seconds(60)
      }
    ) { grape, client in
      async let answer = post("{\"data\":\"svc\"}", "/lookup", to: grape.api, as: client)
      try await eventually {
        let held = [await one.held(), await two.held()]
        return held == [[svc], [svc]]
      }
      await one.release()
      #expect(try await answer.body == "[\"127.0.0.1:11\"]")
      #expect(await two.held() == [svc])
    }
    await one.stop()
    await two.stop()
  }

  @Test("nobody is found in time: that is not said to be nobody")
  func unanswered() async throws {
    try await ScriptedPair.with { nodes in
      try await withGrape(
        among: nodes,
        configure: {
          $0.lookupPatience = .milliseconds(100)
          $0.requestTimeout = .seconds(1)
        }
      ) { grape, client in
        let answer = try await post("{\"data\":\"none\"}", "/lookup", to: grape.api, as: client)
        #expect(answer.status == 503 && answer.body == "ERR_GRAPE_LOOKUP_TIMEOUT")
      }
    }
  }

  @Test("P29 a node that is silent does not keep from a watch what is announced meanwhile")
  func watchBesideSilent() async throws {
    try await ScriptedPair.with { nodes in
      let announcer = try authority.worker("svc")
      try await withGrape(among: nodes) { grape, client in
        let watcher = try await Watcher.open(grape.api, as: client)
        try await watcher.send("{\"data\":\"svc\"}")
        let first = "\"127.0.0.1:11\""
        #expect(try await watcher.next() == "{\"key\":\"svc\",\"peers\":[\(first)]}")
        async let announced = post(
          "{\"data\":[\"svc\",33]}", "/announce", to: grape.api, as: announcer)
        #expect(
          try await watcher.next() == "{\"key\":\"svc\",\"peers\":[\"127.0.0.1:33\",\(first)]}")
        await nodes.slow.release()
        _ = try await announced
        await watcher.close()
      }
    }
  }

  @Test("nobody: an end without a line, from the lookup and from memory")
  func nobody() async throws {
    try await ScriptedPair.with { nodes in
      await nodes.slow.release()
      try await withGrape(among: nodes) { grape, client in
        for _ in 0..<2 {
          let stream = try await LineStream(client, grape.api)
          #expect(try await stream.ask("{\"data\":\"none\"}").status == .ok)
          #expect(try await stream.next() == nil)
        }
      }
    }
  }

  @Test("what is no lookup, too large or not allowed is refused as without the field")
  func refused() async throws {
    try await ScriptedPair.with { nodes in
      try await withGrape(among: nodes, configure: { $0.payloadBytesMax = 100 }) { grape, client in
        let long = "{\"data\":\"\(String(repeating: "x", count: 89))\"}"
        for (body, status, text) in [
          ("{\"data\":5}", 200, "\"ERR_GRAPE_LOOKUP\""), ("x", 500, "ERR_GRAPE_PAYLOAD_INVALID"),
          (long + " ", 413, "ERR_GRAPE_PAYLOAD_SIZE"),
        ] {
          let stream = try await LineStream(client, grape.api)
          let head = try await stream.ask(body)
          #expect(head.status.code == status && head.fields["Content-Type"] == nil)
          #expect(try await stream.next() == text)
        }
        await nodes.slow.release()
        let most = try await LineStream(client, grape.api)
        #expect(try await most.ask(long).status == .ok)
        #expect(try await most.next() == nil)
      }
      try await withGrape(
        among: nodes, configure: { $0.access = AccessControl(AccessPolicy([])) }
      ) { grape, client in
        let stream = try await LineStream(client, grape.api)
        #expect(try await stream.ask("{\"data\":\"svc\"}").status.code == 403)
        #expect(try await stream.next() == "ERR_GRAPE_NOT_PERMITTED")
      }
    }
  }

  @Test("a caller that goes ends its lookup; one that takes too long is broken off, not ended")
  func givenUp() async throws {
    try await ScriptedPair.with { nodes in
      var log = ErrorLog()
      log.logLevel = .debug
      let lines = log
      try await withGrape(
        among: nodes, logger: Logger(label: "test") { _ in lines },
        configure: { $0.requestTimeout = .seconds(30) }
      ) { grape, client in
        let gone = try await LineStream(client, grape.api)
        _ = try await gone.ask("{\"data\":\"svc\"}")
        #expect(try await gone.next() == "[\"127.0.0.1:11\"]\n")
        await gone.close()
        // The slow node has not answered yet.
        for await message in lines.messages where message == "a lookup was given up" { break }
      }
      try await withGrape(among: nodes, configure: { $0.requestTimeout = .milliseconds(1_500) }) {
        grape, client in
        let late = try await LineStream(client, grape.api)
        _ = try await late.ask("{\"data\":\"svc\"}")
        #expect(try await late.next() == "[\"127.0.0.1:11\"]\n")
        await #expect(throws: TransportError.self) { try await late.next() }
      }
    }
  }
}

/// A lookup whose answer comes in lines.
final class LineStream: Sendable {
  private let stream: HTTPClientStream

  init(_ tls: TLSConfiguration, _ address: SocketAddress) async throws {
    let context = try TLSContext(tls)
    let destination = Destination(Endpoint(address), verification: .name("127.0.0.1"))
    let loop = try EventLoopGroup.shared().next()
    stream = try await Self.open(context, destination, on: loop)
  }

  private static func open(
    _ context: TLSContext, _ destination: Destination, on loop: isolated EventLoop
  ) async throws -> HTTPClientStream {
    let request = HTTPClientRequest(
      .post, "/lookup", fields: [("Accept", "text/plain, application/x-ndjson;q=0.9")])
    return try await HTTPClient(context: context).openStream(
      request, to: destination, by: .now() + .seconds(10), on: loop)
  }

  /// Sends the request; gives the head of the answer.
  func ask(_ body: String) async throws -> HTTPClientResponse {
    try await stream.writer.write(Array(body.utf8))
    await stream.writer.finish()
    return try await stream.response(by: .now() + .seconds(10))
  }

  /// The next part of the answer: a line, for each is written at once.
  func next() async throws -> String? {
    var parts = stream.body.makeAsyncIterator()
    return try await parts.next(isolation: #isolation).map { String(decoding: $0, as: UTF8.self) }
  }

  func close() async { await stream.close() }
}
