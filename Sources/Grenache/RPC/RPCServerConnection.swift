internal import GrenacheAccess
internal import GrenacheFraming
internal import GrenacheIO
internal import GrenacheTransport
internal import Logging
internal import Metrics

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

  private let services: RPCServiceTable
  private let workers: WorkerPool<Call>
  private var calls: CallPermissions?
  private let limits: RPCConnectionLimits
  private let logger: Logger
  private var connection: WebSocketConnection?
  private var callsInFlight = 0
  private var isDraining = false

  init(
    services: RPCServiceTable, access: AccessControl?, limits: RPCConnectionLimits,
    logger: Logger, on loop: isolated EventLoop
  ) {
    self.services = services
    workers = .of(loop)
    calls = access.map(CallPermissions.init)
    self.limits = limits
    self.logger = logger
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
    guard let service = services.service(for: envelope, in: payload) else {
      let name = envelope.keyString(in: payload) ?? "null"
      return reply(rid, fault: "ERR_SERVICE_NOT_FOUND: \(name.prefix(200))", on: loop)
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
      logger.debug("connection lost", metadata: ["error": "\(error)"])
    }
  }

  /// Answers a call that the access policy does not allow: counted, and logged when it is the first
  /// of its service on this connection, so that a peer cannot flood the log.
  private func deny(
    _ rid: [UInt8], _ service: String, _ connection: WebSocketConnection,
    on loop: isolated EventLoop
  ) {
    Counter(label: "grenache_denials_total", dimensions: [("right", "call")]).increment()
    if calls?.isNewDenial == true {
      let who = connection.identity?.displayName ?? "\(connection.remoteAddress)"
      logger.notice(
        "denied: no rule of the access policy allows it",
        metadata: ["right": "call", "service": "\(service)", "by": "\(who)"])
    }
    reply(rid, fault: "\(RPCFault.notPermittedCode): \(service)", on: loop)
  }

  /// Runs the handler; whatever it throws answers this call and touches no other.
  private func run(_ call: Call, on loop: isolated EventLoop) async {
    do {
      let result = try await call.service.handler(call.request)
      reply(call.rid, result: result, on: loop)
    } catch let fault as RPCFault {
      reply(call.rid, fault: fault.message, on: loop)
    } catch {
      logger.error(
        "a handler failed",
        metadata: ["service": "\(call.service.name)", "error": "\(error)"])
      reply(call.rid, fault: "ERR_INTERNAL: the call failed", on: loop)
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
