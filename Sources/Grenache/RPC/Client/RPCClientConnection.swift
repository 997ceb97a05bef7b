internal import GrenacheFraming
internal import GrenacheIO
internal import GrenacheTLS
internal import GrenacheTransport

/// The calls in flight over one WebSocket of a client, confined to its loop.
final class RPCClientConnection: WebSocketHandler, LoopTimerTarget {
  private typealias Call = LoopPromise<Result<RPCReply, GrenacheError>>

  private let worker: Endpoint
  private let idleTimeout: Duration
  private let callBytesMax: Int
  private var webSocket: WebSocketConnection?
  private var calls: [UInt64: Call] = [:]
  private var lastID: UInt64 = 0
  /// Calls that are not sent yet, because too much output waits.
  private var waitingForRoom = WaitingLine<LoopPromise<Void>>()
  /// What broke the connection.
  private var failure: TransportError?
  /// Whether the worker speaks the extension.
  private var isExtended = false
  private var lastUse = MonotonicTime(nanoseconds: 0)
  private lazy var idleTimer = TargetTimer(self)

  init(worker: Endpoint, idleTimeout: Duration, callBytesMax: Int) {
    self.worker = worker
    self.idleTimeout = idleTimeout
    self.callBytesMax = callBytesMax
  }

  var callsInFlight: Int { calls.count + waitingForRoom.count }
  var isOpen: Bool { webSocket?.isOpen == true }

  func attach(_ webSocket: WebSocketConnection, on loop: isolated EventLoop) {
    self.webSocket = webSocket
    isExtended = webSocket.subprotocol == RPCCallContext.subprotocol
    lastUse = loop.core.now
    loop.core.arm(idleTimer, after: idleTimeout)
  }

  func close(on loop: isolated EventLoop) {
    webSocket?.close(.normal, on: loop)
  }

  /// Sends the call and waits for its reply, by `deadline`.
  func call(
    _ call: RPCCall, by deadline: MonotonicTime, on loop: isolated EventLoop
  ) async throws(GrenacheError) -> RPCReply {
    // Nothing may come between finding room and taking it, so that no `await` stands between them.
    var webSocket = try openWebSocket()
    var hasWaited = false
    while webSocket.isOutputFull {
      // Made here: between the look at the output and the wait there must be no `await`.
      let room = LoopPromise<Void>()
      if hasWaited { waitingForRoom.prepend(room) } else { waitingForRoom.append(room) }
      hasWaited = true
      try await wait(for: room, by: deadline, on: loop)
      webSocket = try openWebSocket()
    }
    lastID &+= 1
    let id = lastID
    let message = message(id, call, by: deadline, on: loop)
    let promise = Call()
    do throws(GrenacheError) {
      try call.checkSize(message.count, callBytesMax)
      calls[id] = promise
      lastUse = loop.core.now
      webSocket.send(.text, message.span, on: loop)
    } catch {
      tellRoom(in: webSocket, on: loop)
      throw error
    }
    tellRoom(in: webSocket, on: loop)
    let outcome = await promise.wait(until: deadline, on: loop)
    calls[id] = nil
    lastUse = loop.core.now
    switch outcome {
    case .value(let result): return try result.get()
    case .timedOut:
      cancel(id, on: loop)
      throw GrenacheError(.deadlineExceeded, "\(worker) did not answer \(call.service) in time")
    case .cancelled:
      cancel(id, on: loop)
      throw GrenacheError(.cancelled, "the call of \(call.service) was cancelled")
    }
  }

  private func message(
    _ id: UInt64, _ call: RPCCall, by deadline: MonotonicTime, on loop: isolated EventLoop
  ) -> [UInt8] {
    var message: [UInt8] = []
    if isExtended {
      // Not that of the loop's turn: what came before this in it has taken its time, too.
      let timeout = deadline.millisecondsLeft(at: .now())
      RPCRequestEnvelope.append(
        rid: id, service: call.service, payload: call.payload, to: &message
      ) { output in
        RPCCallContext.append(
          timeoutMs: timeout, metadata: call.options.metadata, to: &output)
      }
    } else {
      RPCRequestEnvelope.append(
        rid: id, service: call.service, payload: call.payload, to: &message)
    }
    return message
  }

  /// Tells the worker that nobody waits any more, if it understands that.
  private func cancel(_ id: UInt64, on loop: isolated EventLoop) {
    guard isExtended, let webSocket, webSocket.isOpen else { return }
    webSocket.send(.text, Array("{\"cancel\":\"\(id)\"}".utf8).span, on: loop)
  }

  private func openWebSocket() throws(GrenacheError) -> WebSocketConnection {
    guard let webSocket, webSocket.isOpen else {
      throw GrenacheError(
        .workerUnreachable, "the connection to \(worker) has closed", cause: failure)
    }
    return webSocket
  }

  /// Waits until output has been sent or the connection has closed: what a worker does not read stays
  /// with the callers.
  private func wait(
    for room: LoopPromise<Void>, by deadline: MonotonicTime, on loop: isolated EventLoop
  ) async throws(GrenacheError) {
    let outcome = await room.wait(until: deadline, on: loop)
    if case .value = outcome { return }
    waitingForRoom.giveUp()
    if case .cancelled = outcome {
      throw GrenacheError(.cancelled, "the call was cancelled before it was sent")
    }
    throw GrenacheError(
      .deadlineExceeded, "\(worker) does not take what it has been sent already")
  }

  /// Lets the next call be sent, if there is room for it; that one lets the one behind it.
  private func tellRoom(in webSocket: WebSocketConnection, on loop: isolated EventLoop) {
    guard webSocket.isOpen else { return tellClosed(on: loop) }
    if !webSocket.isOutputFull { waitingForRoom.popFirst()?.fulfil((), on: loop) }
  }

  /// Nobody waits any more for what is closed.
  private func tellClosed(on loop: isolated EventLoop) {
    while let room = waitingForRoom.popFirst() { room.fulfil((), on: loop) }
  }

  // MARK: From the WebSocket

  func drained(_ connection: WebSocketConnection, on loop: isolated EventLoop) {
    tellRoom(in: connection, on: loop)
  }

  func received(
    _ kind: WebSocketMessageKind, _ payload: Span<UInt8>, from connection: WebSocketConnection,
    on loop: isolated EventLoop
  ) {
    // A reply to nothing that is in flight (late, doubled or made up) is dropped.
    guard let envelope = RPCReplyEnvelope(payload, checksUTF8: kind == .binary) else {
      return receivedNoReply(payload, on: loop)
    }
    guard let id = envelope.ridNumber(in: payload), let call = calls[id] else { return }
    if let message = envelope.errorMessage(in: payload) {
      let code = RPCFault.code(of: message, isExtended: isExtended)
      var error = GrenacheError(code, message)
      error.result = envelope.resultBesideError(in: payload)
      return call.fulfil(.failure(error), on: loop)
    }
    let reply = RPCReply(
      result: envelope.result.bytes(in: payload), identity: connection.identity,
      negotiated: connection.negotiated, worker: worker)
    call.fulfil(.success(reply), on: loop)
  }

  /// A message that cannot be understood; the call that it names need not wait for another one.
  private func receivedNoReply(_ message: Span<UInt8>, on loop: isolated EventLoop) {
    guard let id = RPCReplyEnvelope.ridNumber(beginning: message), let call = calls[id] else {
      return
    }
    call.fulfil(
      .failure(GrenacheError(.invalidReply, "\(worker) answered with what is no reply")), on: loop)
  }

  func closed(
    _ connection: WebSocketConnection, _ closure: WebSocketClosure, on loop: isolated EventLoop
  ) {
    loop.core.cancel(idleTimer)
    webSocket = nil
    failure = closure.error
    let lost = loss(by: closure)
    for call in calls.values { call.fulfil(.failure(lost), on: loop) }
    tellClosed(on: loop)
  }

  /// What becomes of the calls in flight.
  private func loss(by closure: WebSocketClosure) -> GrenacheError {
    if isExtended, closure.error == nil {
      // A worker that speaks the extension goes away with nothing unanswered that it has begun.
      if closure.code == .goingAway {
        return GrenacheError(.workerUnreachable, "\(worker) shuts down")
      }
      if closure.code == .policyViolation, closure.reason == WebSocketConnection.refusal {
        return GrenacheError(
          .notPermitted, "\(closure.reason): \(worker) allows this certificate nothing any more")
      }
    }
    return GrenacheError(
      .connectionLost, "the connection to \(worker) broke before the reply",
      cause: closure.error)
  }

  func timerFired(_ timer: LoopTimer, on loop: isolated EventLoop) {
    let idle = loop.core.now - lastUse
    let isUsed = callsInFlight > 0
    if !isUsed, idle >= idleTimeout {
      close(on: loop)
    } else {
      loop.core.arm(idleTimer, after: isUsed ? idleTimeout : idleTimeout - idle)
    }
  }
}
