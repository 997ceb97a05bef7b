import GrenacheIO
import GrenacheTLS
import GrenacheTransport
import TestSupport
import Testing

@testable import Grenache

@Suite("What waits in the kernel between a publisher and its subscribers", .timeLimit(.minutes(1)))
struct PubSubBufferTests: NewsSuite {
  let authority: TestAuthority

  init() throws { authority = try TestAuthority() }

  private func raw(
    _ news: RunningPub, isPlain: Bool, receiveBufferBytes: Int? = nil
  ) async throws -> RawSubscriber {
    let raw = try await RawSubscriber(
      to: news.endpoint, tls: isPlain ? nil : try authority.client(),
      subprotocols: PubWire.offeredSubprotocols, receiveBufferBytes: receiveBufferBytes)
    await raw.say("{\"subscribe\":{}}")
    _ = await raw.heard(1)
    return raw
  }

  private func news(
    isPlain: Bool, configure: (inout PeerPubConfiguration) -> Void = { _ in }
  ) async throws -> RunningPub {
    try await RunningPub(
      "news", isPlain ? .insecurePlaintext(port: 0) : try secure(), configure: configure)
  }

  @Test("P36 one that stalls finds no more later than its limits and the kernel's buffers say")
  func stalled() async throws {
    let grape = try await FixedGrape(tls: try authority.host())
    let sub = try await subscriber(grape) { $0.bufferBytesMax = 512 << 10 }
    let news = try await news(isPlain: false)
    grape.answer([news.endpoint])
    let running = Task { await sub.run() }
    try await news.subscribers(1)
    let size = 16 << 10
    let message = PubMessage(String(repeating: "x", count: size))
    var iterator = sub.makeAsyncIterator()
    var sent = 0
    // A connection that has carried much: the system would have given it large buffers by now.
    for _ in 0..<50 {
      for _ in 0..<20 { try await news.pub.publish(message) }
      for _ in 0..<20 { _ = await iterator.next() }
      sent += 20
    }
    let before = sent
    while await news.pub.droppedCount < 20, sent < before + 4_000 {
      try await news.pub.publish(message)
      sent += 1
    }
    let dropped = await news.pub.droppedCount
    #expect(dropped >= 20)
    // What the subscriber keeps, what it was just reading, the publisher's queue and output, and twice
    // each of both kernels' buffers.
    let limits = [512, 256, 384, 128, 2 * 256, 2 * 256].reduce(0, +) << 10
    #expect((sent - before - dropped) * size <= limits)
    running.cancel()
    await running.value
    await news.stop()
    await grape.stop()
  }

  @Test(
    "P23 what one that ends in order has handed to the kernel comes all the same",
    arguments: [true, false], [.milliseconds(500), .seconds(20)] as [Duration])
  func inOrder(_ isPlain: Bool, _ deadline: Duration) async throws {
    let news = try await news(isPlain: isPlain) { $0.drainTimeout = deadline }
    let slow = try await raw(news, isPlain: isPlain, receiveBufferBytes: 16 << 10)
    await slow.pause()
    // More than the subscriber's kernel takes, and less than the publisher's does beside.
    let text = String(repeating: "x", count: 8 << 10)
    for _ in 1...20 { try await news.pub.publish(PubMessage(text)) }
    try await eventually { await news.pub.heldBytesMax == 0 }
    // It waits for an answer for a while, and is gone then.
    await news.stop()
    await slow.resume()
    #expect(await slow.heard(until: { _ in false }).count == 21)
  }

  @Test(
    "what has come before a connection is broken off can still be read", arguments: [true, false])
  func brokenOff(_ isPlain: Bool) async throws {
    let news = try await news(isPlain: isPlain)
    let slow = try await raw(news, isPlain: isPlain)
    await slow.pause()
    for number in 1...5 { try await news.pub.publish(PubMessage("\(number)")) }
    try await eventually { await news.pub.heldBytesMax == 0 }
    await news.pub.abortSubscribers()
    try await news.subscribers(0)
    // Time in which it could notice.
    _ = try await raw(news, isPlain: isPlain)
    await slow.resume()
    #expect(await slow.heard(until: { _ in false }).count == 6)
    await news.stop()
  }
}
