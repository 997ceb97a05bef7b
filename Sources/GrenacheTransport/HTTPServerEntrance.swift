internal import GrenacheIO
internal import GrenacheTLS
internal import Logging

/// The way into a server's loop: where a connection is until it is known what it speaks and, with TLS, its
/// turn to shake hands has come. It performs what `HandshakeQueue` decides.
final class HTTPServerEntrance: LoopTimerTarget {
  typealias Number = HandshakeQueue.Number

  /// Whose first record is there and waits in the kernel.
  private struct Waiting {
    var socket: StreamSocket
    var since: MonotonicTime
    /// What its silence has left of the time for its handshake.
    var timeLeft: Duration
  }

  private unowned let shard: HTTPServerShard
  private let logger: Logger
  private var queue: HandshakeQueue
  private var silent: [Number: HTTPServerSniffer] = [:]
  private var waiting: [Number: Waiting] = [:]
  private var shaking: [Number: HTTPServerConnection] = [:]
  private var isServing = false
  private lazy var timer = TargetTimer(self)

  /// As many may be silent, whatever the loop's share: clients who mean well and come at once are, too,
  /// for a moment.
  private static let silentConnectionsMin = 64

  /// - Parameter connectionsMax: the loop's share; what says nothing may take a quarter of a large one.
  init(_ shard: HTTPServerShard, connectionsMax: Int, logger: Logger) {
    self.shard = shard
    self.logger = logger
    let configuration = shard.configuration
    queue = HandshakeQueue(
      silentMax: min(
        configuration.silentConnectionsMax, max(Self.silentConnectionsMin, connectionsMax / 4)),
      shakingMax: configuration.handshakesMax, waitMax: configuration.handshakeQueueTimeout,
      quietMax: configuration.handshakeQuietTimeout)
  }

  /// Connections that have not come in yet.
  var connectionCount: Int { silent.count + waiting.count }

  private var configuration: HTTPServerConfiguration { shard.configuration }

  /// Takes a connection of which nothing is known.
  func admit(_ socket: StreamSocket, on loop: isolated EventLoop) {
    let (number, crowdedOut) = queue.arrived()
    if let crowdedOut, let oldest = silent.removeValue(forKey: crowdedOut) {
      Refusals.count(.silent)
      oldest.close(on: loop)
    }
    let sniffer = HTTPServerSniffer(
      socket, number: number, entrance: self,
      mayBePlain: configuration.acceptsInsecurePlaintextBesideTLS)
    silent[number] = sniffer
    sniffer.start(on: loop)
  }

  /// Closes all who have not come in.
  func close(on loop: isolated EventLoop) {
    loop.core.cancel(timer)
    for one in waiting.values { one.socket.close(on: loop) }
    waiting = [:]
    queue.forgetWaiting()
    for (number, sniffer) in silent {
      sniffer.close(on: loop)
      queue.left(number)
    }
    silent = [:]
  }

  // MARK: From the sniffers

  /// How long the first byte, or with TLS the first record, may take.
  func patience(isTLS: Bool) -> Duration {
    isTLS ? configuration.stream.handshakeTimeout : configuration.headTimeout
  }

  /// It is known what a connection speaks; with TLS, its first record is there.
  func spoke(_ sniffer: HTTPServerSniffer, isTLS: Bool, on loop: isolated EventLoop) {
    silent[sniffer.number] = nil
    guard isTLS else {
      queue.left(sniffer.number)
      shard.startPlain(sniffer.socket, on: loop)
      return
    }
    let now = loop.core.now
    let silence = now - sniffer.beganAt
    waiting[sniffer.number] = Waiting(
      socket: sniffer.socket, since: now,
      timeLeft: max(.zero, configuration.stream.handshakeTimeout - silence))
    queue.spoke(sniffer.number, at: now)
    serve(on: loop)
  }

  /// A connection has come to nothing before its turn; `error` says why if nobody has counted it.
  func left(
    _ sniffer: HTTPServerSniffer, _ error: TransportError?, on loop: isolated EventLoop
  ) {
    silent[sniffer.number] = nil
    waiting[sniffer.number] = nil
    queue.left(sniffer.number)
    sniffer.close(on: loop)
    if let error { shard.connectionFailed(error) }
    shard.connectionGone(on: loop)
  }

  // MARK: Handshakes

  /// A handshake is over, well or not: the next one may begin.
  func handshakeEnded(_ number: Number, on loop: isolated EventLoop) {
    shaking[number] = nil
    queue.left(number)
    serve(on: loop)
  }

  func timerFired(_ timer: LoopTimer, on loop: isolated EventLoop) {
    serve(on: loop)
  }

  private func serve(on loop: isolated EventLoop) {
    // What is done here ends handshakes, which calls this again: the outer call goes on with that.
    guard !isServing else { return }
    isServing = true
    defer { isServing = false }
    while let action = queue.next(
      at: loop.core.now, quietSince: { shaking[$0]?.handshakeQuietSince })
    {
      perform(action, on: loop)
    }
    if let look = queue.nextLook {
      loop.core.arm(timer, at: look)
    } else {
      loop.core.cancel(timer)
    }
  }

  private func perform(_ action: HandshakeQueue.Action, on loop: isolated EventLoop) {
    switch action {
    case .begin(let number):
      guard let newcomer = waiting.removeValue(forKey: number) else { return queue.left(number) }
      begin(newcomer, number, on: loop)
    case .giveUp(let number):
      Refusals.count(.handshakeWait)
      waiting.removeValue(forKey: number)?.socket.close(on: loop)
    case .makeRoom(let number):
      shaking.removeValue(forKey: number)?.makeRoom(on: loop)
    }
  }

  private func begin(_ newcomer: Waiting, _ number: Number, on loop: isolated EventLoop) {
    let socket = newcomer.socket
    // It may have failed while it waited.
    guard !socket.isClosed else { return queue.left(number) }
    // A client that has given up is still there with its first flight: to answer that, while others
    // wait, would keep them waiting until they give up as well.
    guard newcomer.since == loop.core.now || !socket.hasPeerEnded else {
      logger.debug(
        "a client gave up before its turn to shake hands",
        metadata: ["peer": "\(socket.remoteAddress)"])
      socket.close(on: loop)
      return queue.left(number)
    }
    let connection = shard.startTLS(
      socket, number, by: loop.core.now + newcomer.timeLeft, on: loop)
    guard let connection else { return queue.left(number) }
    // It may have failed at once.
    if connection.isShakingHands { shaking[number] = connection }
  }
}
