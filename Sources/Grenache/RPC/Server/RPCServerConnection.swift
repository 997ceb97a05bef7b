internal import DequeModule
internal import GrenacheFraming
internal import GrenacheIO
internal import GrenacheTransport
internal import Logging

/// The limits of one connection to a server.
struct RPCConnectionLimits: Sendable {
  var callsInFlightMax: Int
  var callsWaitingMax: Int
  var callsWaitingBytesMax: Int
  var identifierBytesMax: Int
  var replyBytesMax: Int
}

/// The calls that come over one WebSocket, confined to its loop.
///
/// Envelopes are split in place; a call's payload is copied once, for its handler. The handlers of
/// one read start together when the read has been parsed, and what they answer without suspending
/// leaves with one record.
///
/// Beyond the limit of calls in flight, calls wait, so that pings, cancellations and the end of the
/// connection are still read; reading stops when too much waits. A peer that does not take its replies
/// gets no more of them: while the output is full, no call is begun.
final class RPCServerConnection: WebSocketHandler, LoopTimerTarget {
  private struct Call: LoopWork {
    let owner: RPCServerConnection
    let place: Int
    let rid: [UInt8]
    let request: RPCRequest
    let service: RPCService
    /// What it had as it was sent: identifier and metadata are held like the payload.
    let bytes: Int

    func run(on loop: isolated EventLoop) async {
      await owner.run(self, on: loop)
    }
  }

  private let dispatcher: RPCDispatcher
  private let workers: WorkerPool<Call>
  private var calls: CallPermissions?
  private let limits: RPCConnectionLimits
  private var connection: WebSocketConnection?
  /// Whether the peer speaks the extension.
  private var isExtended = false
  private var running = RunningCalls()
  /// The calls whose handlers have been started and have not ended.
  private var inFlight = 0
  /// The calls that wait for one of those to end.
  private var waiting: Deque<Call> = []
  private var waitingBytes = 0
  /// Whether calls were cancelled in this pass: those that wait are dropped at its end, all at once.
  private var hasCancelled = false
  /// Whether that has been done in this pass already, to make room.
  private var hasDropped = false
  /// The calls in flight that wait for output to be sent before they begin.
  private var heldByOutput: [CheckedContinuation<Void, Never>] = []
  private var isDraining = false
  private lazy var deadlineTimer = TargetTimer(self)
  /// When that fires, if it is armed.
  private var timerDeadline: MonotonicTime?

  init(_ dispatcher: RPCDispatcher, limits: RPCConnectionLimits, on loop: isolated EventLoop) {
    self.dispatcher = dispatcher
    workers = .of(loop)
    calls = dispatcher.access.map {
      CallPermissions($0, admitsAnonymous: dispatcher.admitsAnonymous)
    }
    self.limits = limits
  }

  func received(
    _ kind: WebSocketMessageKind, _ payload: Span<UInt8>, from connection: WebSocketConnection,
    on loop: isolated EventLoop
  ) {
    if self.connection == nil {
      self.connection = connection
      isExtended = connection.subprotocol == RPCCallContext.subprotocol
    }
    if isExtended, payload.count > 0, payload[0] == 0x7b {
      if let id = RPCCallContext.cancelledID(payload) {
        if running.cancel(payload.extracting(id).copy()) { hasCancelled = true }
      }
      return
    }
    // What is not a call has nobody to answer to: existing servers are silent here, too.
    let checksUTF8 = kind == .binary
    guard let envelope = RPCRequestEnvelope(payload, checksUTF8: checksUTF8) else { return }
    let rid = envelope.rid.bytes(in: payload)
    guard rid.count <= limits.identifierBytesMax else {
      return reply(rid, fault: oversized(rid), on: loop)
    }
    guard let service = dispatcher.services.service(for: envelope, in: payload) else {
      return reply(rid, fault: RPCDispatcher.notFound(envelope.keyString(in: payload)), on: loop)
    }
    if isDraining {
      return reply(rid, fault: "\(RPCFault.shuttingDownCode): \(service.name)", on: loop)
    }
    if calls?.allow(service.name, by: connection.identity) == false {
      return deny(rid, service.name, connection, on: loop)
    }
    if isExtended, !hasRoomInLine(on: loop) {
      return reply(rid, fault: dispatcher.shed(service.name), on: loop)
    }
    let context = isExtended ? envelope.context.map { RPCCallContext(payload, at: $0) } : nil
    // Not the loop's time: what came before this in its turn must not be taken off.
    let deadline = context?.timeoutMs.map { MonotonicTime.now().adding(milliseconds: $0) }
    let request = RPCRequest(
      service: service.name, payload: envelope.payload.bytes(in: payload),
      identity: connection.identity, remoteAddress: connection.remoteAddress, deadline: deadline,
      extras: context.flatMap(Self.extras))
    let place = running.add(rid, deadline: deadline)
    watch(deadline, on: loop)
    let call = Call(
      owner: self, place: place, rid: rid, request: request, service: service,
      bytes: payload.count)
    guard inFlight >= limits.callsInFlightMax else { return start(call) }
    waiting.append(call)
    waitingBytes += call.bytes
    if !hasRoom { connection.pauseReading(on: loop) }
  }

  /// Whether one call more may wait: where the line is full of cancelled ones they are dropped, once in a pass,
  /// so that a peer that cancels one and sends another all the time costs no walk for each.
  private func hasRoomInLine(on loop: isolated EventLoop) -> Bool {
    if waiting.count >= limits.callsWaitingMax, hasCancelled, !hasDropped {
      hasDropped = true
      dropCancelled(on: loop)
    }
    return waiting.count < limits.callsWaitingMax
  }

  private func oversized(_ rid: [UInt8]) -> String {
    "ERR_RID_SIZE: the identifier has \(rid.count) bytes, more than \(limits.identifierBytesMax)"
  }

  private func start(_ call: Call) {
    inFlight += 1
    workers.submit(call)
  }

  /// Whether another call may come: one that would be too many by number is answered at once where the
  /// peer understands that.
  private var hasRoom: Bool {
    waitingBytes < limits.callsWaitingBytesMax
      && (isExtended || waiting.count < limits.callsWaitingMax)
  }

  /// Starts those that waited for a call to end.
  private func startWaiting(on loop: isolated EventLoop) {
    guard !waiting.isEmpty else { return }
    while inFlight < limits.callsInFlightMax, let call = waiting.popFirst() {
      waitingBytes -= call.bytes
      start(call)
    }
    workers.pump(on: loop)
    if hasRoom { connection?.resumeReading(on: loop) }
  }

  /// Makes room: a call that waits and has been cancelled will not be begun.
  private func dropCancelled(on loop: isolated EventLoop) {
    hasCancelled = false
    guard !waiting.isEmpty else { return }
    waiting.removeAll { call in
      guard running.isCancelled(call.place) else { return false }
      waitingBytes -= call.bytes
      _ = running.end(call.place)
      return true
    }
    if hasRoom { connection?.resumeReading(on: loop) }
  }

  private static func extras(_ context: RPCCallContext) -> RPCRequest.Extras? {
    if context.metadata.isEmpty { return nil }
    return .init(action: nil, actionArguments: nil, metadata: context.metadata)
  }

  func passEnded(of connection: WebSocketConnection, on loop: isolated EventLoop) {
    if hasCancelled { dropCancelled(on: loop) }
    hasDropped = false
    workers.pump(on: loop)
  }

  /// Sees to it that the timer fires by `deadline`. It is left armed when a call ends in time: most calls
  /// cost a comparison.
  private func watch(_ deadline: MonotonicTime?, on loop: isolated EventLoop) {
    guard let deadline, timerDeadline.map({ deadline < $0 }) ?? true else { return }
    timerDeadline = deadline
    loop.core.arm(deadlineTimer, at: deadline)
  }

  func timerFired(_ timer: LoopTimer, on loop: isolated EventLoop) {
    let now = MonotonicTime.now()
    timerDeadline = nil
    running.cancelLate(at: now)
    dropCancelled(on: loop)
    watch(running.nextDeadline(after: now), on: loop)
  }

  func drained(_ connection: WebSocketConnection, on loop: isolated EventLoop) {
    releaseHeld()
  }

  /// Calls that have come are answered; those that still come are told to go elsewhere.
  func drain(_ connection: WebSocketConnection, on loop: isolated EventLoop) {
    isDraining = true
    if running.count == 0 { connection.close(.goingAway, on: loop) }
  }

  func closed(
    _ connection: WebSocketConnection, _ closure: WebSocketClosure, on loop: isolated EventLoop
  ) {
    self.connection = nil
    loop.core.cancel(deadlineTimer)
    // Nobody hears what they would answer.
    running.cancelAll()
    dropCancelled(on: loop)
    releaseHeld()
    if let error = closure.error {
      dispatcher.logger.debug("connection lost", metadata: ["error": "\(error)"])
    }
  }

  /// Answers a call that the access policy does not allow; the log hears of the first of its service
  /// on this connection, so that a peer cannot flood it.
  private func deny(
    _ rid: [UInt8], _ service: String, _ connection: WebSocketConnection,
    on loop: isolated EventLoop
  ) {
    let message = dispatcher.denied(
      service, connection.identity, at: connection.remoteAddress,
      isWorthALine: calls?.isNewDenial == true)
    reply(rid, fault: message, on: loop)
  }

  private func run(_ call: Call, on loop: isolated EventLoop) async {
    while connection?.isOutputFull == true { await waitForOutput(on: loop) }
    // The time now and not that of the loop's turn: handlers before this one in it have taken theirs.
    if running.begin(call.place, at: call.request.deadline == nil ? loop.core.now : .now()) {
      let outcome = await dispatcher.run(call.service, call.request)
      switch running.end(call.place) {
      case .wanted: reply(call.rid, outcome, on: loop)
      case .late: reply(call.rid, fault: RPCDispatcher.late(call.service.name), on: loop)
      case .unwanted: break
      }
    } else {
      // Cancelled, or too late: there is no point in beginning. Who waits by a clock of its own hears nothing,
      // or that the connection goes away: then another worker may begin it.
      _ = running.end(call.place)
    }
    inFlight -= 1
    startWaiting(on: loop)
    if isDraining, running.count == 0 { connection?.close(.goingAway, on: loop) }
  }

  /// Waits until output has been sent or the connection has closed. The call keeps its slot, so that
  /// others wait behind it.
  private func waitForOutput(on loop: isolated EventLoop) async {
    await withCheckedContinuation { continuation in
      loop.preconditionIsolated()
      heldByOutput.append(continuation)
    }
  }

  /// Each of them looks at the output for itself: the first may have filled it again.
  private func releaseHeld() {
    let held = heldByOutput
    heldByOutput = []
    for call in held { call.resume() }
  }

  private func reply(_ rid: [UInt8], _ outcome: RPCOutcome, on loop: isolated EventLoop) {
    switch outcome.bounded(by: limits.replyBytesMax, rid: rid) {
    case .result(let result): reply(rid, result: result, on: loop)
    case .fault(let fault): reply(rid, fault: fault, on: loop)
    }
  }

  private func reply(_ rid: [UInt8], result: [UInt8], on loop: isolated EventLoop) {
    guard let connection else { return }
    let bytes = RPCReplyEnvelope.byteCount(rid: rid, result: result)
    connection.send(.text, payloadBytes: bytes, on: loop) { output in
      RPCReplyEnvelope.append(rid: rid, result: result, to: &output)
    }
  }

  private func reply(_ rid: [UInt8], fault message: String, on loop: isolated EventLoop) {
    reply(rid, fault: RPCFault(message), on: loop)
  }

  private func reply(_ rid: [UInt8], fault: RPCFault, on loop: isolated EventLoop) {
    guard let connection else { return }
    var message: [UInt8] = []
    RPCReplyEnvelope.append(rid: rid, fault, to: &message)
    connection.send(.text, message.span, on: loop)
  }
}
