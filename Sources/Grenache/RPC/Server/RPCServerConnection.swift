internal import GrenacheFraming
internal import GrenacheIO
internal import GrenacheTransport
internal import Logging

/// The limits of one connection to a server.
struct RPCConnectionLimits: Sendable {
  var callsInFlightMax: Int
}

/// The calls that come over one WebSocket, confined to its loop.
///
/// Envelopes are split in place; a call's payload is copied once, for its handler. The handlers of
/// one read start together when the read has been parsed, and what they answer without suspending
/// leaves with one record.
final class RPCServerConnection: WebSocketHandler {
  private struct Call: LoopWork {
    let owner: RPCServerConnection
    let rid: [UInt8]
    let request: RPCRequest
    let service: RPCService

    func run(on loop: isolated EventLoop) async {
      await owner.run(self, on: loop)
    }
  }

  private let dispatcher: RPCDispatcher
  private let workers: WorkerPool<Call>
  private var calls: CallPermissions?
  private let limits: RPCConnectionLimits
  private var connection: WebSocketConnection?
  private var callsInFlight = 0
  private var isDraining = false

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
    if self.connection == nil { self.connection = connection }
    // What is not a call has nobody to answer to: existing servers are silent here, too.
    let checksUTF8 = kind == .binary
    guard let envelope = RPCRequestEnvelope(payload, checksUTF8: checksUTF8) else { return }
    let rid = envelope.rid.bytes(in: payload)
    guard let service = dispatcher.services.service(for: envelope, in: payload) else {
      return reply(rid, fault: RPCDispatcher.notFound(envelope.keyString(in: payload)), on: loop)
    }
    if isDraining {
      return reply(rid, fault: "\(RPCFault.shuttingDownCode): \(service.name)", on: loop)
    }
    if calls?.allow(service.name, by: connection.identity) == false {
      return deny(rid, service.name, connection, on: loop)
    }
    let request = RPCRequest(
      service: service.name, payload: envelope.payload.bytes(in: payload),
      identity: connection.identity, remoteAddress: connection.remoteAddress)
    callsInFlight += 1
    if callsInFlight >= limits.callsInFlightMax { connection.pauseReading(on: loop) }
    workers.submit(
      Call(owner: self, rid: rid, request: request, service: service))
  }

  func passEnded(of connection: WebSocketConnection, on loop: isolated EventLoop) {
    workers.pump(on: loop)
  }

  /// Calls that have come are answered; those that still come are told to go elsewhere.
  func drain(_ connection: WebSocketConnection, on loop: isolated EventLoop) {
    isDraining = true
    if callsInFlight == 0 { connection.close(.goingAway, on: loop) }
  }

  func closed(
    _ connection: WebSocketConnection, _ closure: WebSocketClosure, on loop: isolated EventLoop
  ) {
    self.connection = nil
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
    switch await dispatcher.run(call.service, call.request) {
    case .result(let result): reply(call.rid, result: result, on: loop)
    case .fault(let message): reply(call.rid, fault: message, on: loop)
    }
    callsInFlight -= 1
    if callsInFlight < limits.callsInFlightMax { connection?.resumeReading(on: loop) }
    if isDraining, callsInFlight == 0 { connection?.close(.goingAway, on: loop) }
  }

  private func reply(_ rid: [UInt8], result: [UInt8], on loop: isolated EventLoop) {
    guard let connection else { return }
    let bytes = RPCReplyEnvelope.byteCount(rid: rid, result: result)
    connection.send(.text, payloadBytes: bytes, on: loop) { output in
      RPCReplyEnvelope.append(rid: rid, result: result, to: &output)
    }
  }

  private func reply(_ rid: [UInt8], fault: String, on loop: isolated EventLoop) {
    guard let connection else { return }
    var message: [UInt8] = []
    RPCReplyEnvelope.append(rid: rid, error: fault, to: &message)
    connection.send(.text, message.span, on: loop)
  }
}
