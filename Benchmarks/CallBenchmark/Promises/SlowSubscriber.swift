import Foundation
import Grenache
import GrenacheFraming
import GrenacheIO
import GrenacheTLS
import GrenacheTransport
import TestSupport

/// P36: one of a thousand subscribers stalls.
enum SlowSubscriber {
  static let count = 1_000

  static func measure() async throws -> Bool {
    let fleet = try Fleet()
    let tls = try fleet.authority.configuration(
      for: .init(commonName: "publisher", services: [Member.key]))
    var configuration = PeerPubConfiguration(port: 0, tls: tls)
    configuration.host = "127.0.0.1"
    configuration.drainTimeout = .zero
    let pub = try await PeerPub(
      Member.key, configuration, group: try EventLoopGroup(count: 1), logger: quiet)
    let running = try await RunningTask { started in try await pub.run { started($0) } }
    let address = running.place
    let context = try TLSContext(fleet.clientTLS)
    let loop = try EventLoopGroup(count: 1).next()
    let others = try await connect(
      Endpoint(address), context, count - 1, "{\"subscribe\":{\"topics\":[\"tick\"]}}", on: loop)
    let stalled = try await connect(
      Endpoint(address), context, 1, "{\"subscribe\":{}}", on: loop)
    try await eventually("\(count) subscribers") { await pub.subscriberCount == count }
    var ratios: [Double] = []
    var held = 0
    for round in 0..<3 {
      _ = try await tick(pub, others, for: .milliseconds(500))
      let calm = try await tick(pub, others, for: .seconds(3))
      await loop.run { loop in
        for connection in stalled.get(on: loop).connections { connection.pauseReading(on: loop) }
      }
      // Only the one that stalls asked for this.
      let dropped = await pub.droppedCount
      let deadline = ContinuousClock.now + .seconds(30)
      while await pub.droppedCount == dropped {
        guard ContinuousClock.now < deadline else { return fails("the stalled one is given all") }
        try await pub.publish(PubMessage(String(repeating: "x", count: 32 << 10), topic: "fill"))
      }
      let beside = try await tick(pub, others, for: .seconds(3))
      held = max(held, await pub.heldBytesMax)
      let lost = await pub.droppedCount - dropped
      await loop.run { loop in
        for connection in stalled.get(on: loop).connections { connection.resumeReading(on: loop) }
      }
      try await Task.sleep(for: .milliseconds(500))
      let named = await loop.run { loop in stalled.get(on: loop).named }
      ratios.append(beside.percentile(99) / calm.percentile(99))
      Promises.show("P36 round \(round + 1), all read: \(calm.summary)")
      Promises.show("    one of \(count) stalls: \(beside.summary)")
      Promises.show("    dropped so far \(await pub.droppedCount) (now \(lost)), named \(named)")
    }
    let isTold = await pub.droppedCount == loop.run { loop in stalled.get(on: loop).named }
    await running.stop()
    let ratio = ratios.sorted()[1]
    Promises.show(
      String(format: "    p99 of the others %.2f times; %d KiB held for it", ratio, held / 1024))
    return ratio < 1.5 && held <= 1 << 20 && isTold
  }

  private static func fails(_ reason: String) -> Bool {
    Promises.show("P36 \(reason)")
    return false
  }

  /// Publishes the time 25 times a second; how long it takes to everybody.
  ///
  /// - Throws: `NeverCameAbout` when not each of them hears each message.
  private static func tick(
    _ pub: PeerPub, _ others: LoopBound<Receivers>, for time: Duration
  ) async throws -> Latencies {
    await others.loop.run { loop in others.get(on: loop).latencies = Latencies() }
    let end = ContinuousClock.now + time
    var expected = 0
    while ContinuousClock.now < end {
      let now = MonotonicTime.now().nanoseconds
      try await pub.publish(
        PubMessage("\(now) " + String(repeating: "x", count: 200), topic: "tick"))
      expected += count - 1
      try await Task.sleep(for: .milliseconds(40))
    }
    // Who hears late counts as late, and who hears nothing is missed.
    let all = expected
    try await eventually("each message to each of \(count - 1)") {
      await others.loop.run { loop in others.get(on: loop).latencies.count } >= all
    }
    return await others.loop.run { loop in others.get(on: loop).latencies }
  }

  private static func connect(
    _ endpoint: Endpoint, _ context: TLSContext, _ count: Int, _ opening: String,
    on loop: isolated EventLoop
  ) async throws -> LoopBound<Receivers> {
    let receivers = Receivers()
    for _ in 0..<count {
      let connection = try await WebSocketClient.connect(
        to: Destination(endpoint, verification: .service(Member.key)), context: context,
        limits: WebSocketLimits(),
        options: WebSocketOptions(subprotocols: ["grenache", "grenache.pub.v2"]),
        handler: receivers, by: .now() + .seconds(20), on: loop)
      connection.send(.text, Array(opening.utf8).span, on: loop)
      receivers.connections.append(connection)
    }
    return LoopBound(receivers, on: loop)
  }
}

/// Connections of subscribers that note how old what they hear is.
private final class Receivers: WebSocketHandler {
  var connections: [WebSocketConnection] = []
  var latencies = Latencies()
  /// Messages that gaps have named.
  var named = 0

  func received(
    _ kind: WebSocketMessageKind, _ payload: Span<UInt8>, from connection: WebSocketConnection,
    on loop: isolated EventLoop
  ) {
    guard payload.count > 0 else { return }
    if payload[0] == 0x7b { return hear(control: payload) }
    // [<number>,"tick","<nanoseconds> …"]
    var quotes = 0
    var sent: UInt64 = 0
    for index in 0..<min(payload.count, 80) {
      let byte = payload[index]
      if byte == 0x22 { quotes += 1 }
      guard quotes == 3 else { continue }
      if byte == 0x20 { break }
      if byte != 0x22 { sent = sent &* 10 &+ UInt64(byte &- 0x30) }
    }
    let now = MonotonicTime.now().nanoseconds
    if sent > 0, sent <= now { latencies.add(.nanoseconds(Int64(now - sent))) }
  }

  private func hear(control payload: Span<UInt8>) {
    struct Control: Decodable {
      struct Gap: Decodable { var from, to: Int }
      var gap: Gap?
    }
    let data = Data(payload.copy())
    guard let gap = (try? JSONDecoder().decode(Control.self, from: data))?.gap else { return }
    named += gap.to - gap.from + 1
  }
}
