internal import GrenacheAccess
internal import GrenacheIO
internal import GrenacheTLS
internal import Logging
internal import Metrics

/// What a call was answered with.
enum RPCOutcome: Sendable {
  /// One JSON value.
  case result([UInt8])
  case fault(RPCFault)

  /// Itself, or an error where the reply to `rid` would be larger than a caller takes.
  @inline(__always)
  func bounded(by bytesMax: Int, rid: [UInt8]) -> RPCOutcome {
    let bytes: Int
    switch self {
    case .result(let result):
      bytes = RPCReplyEnvelope.byteCount(rid: rid, result: result)
      if bytes <= bytesMax { return self }
    case .fault(let fault):
      // No byte of a text takes more than six as JSON.
      if fault.message.utf8.count < 1 << 10, fault.result == nil { return self }
      var envelope: [UInt8] = []
      RPCReplyEnvelope.append(rid: rid, fault, to: &envelope)
      bytes = envelope.count
      if bytes <= bytesMax { return self }
    }
    return .fault(
      RPCFault("ERR_REPLY_SIZE: the reply has \(bytes) bytes, more than \(bytesMax)"))
  }
}

/// What a server does with a call, whichever protocol has brought it.
struct RPCDispatcher: Sendable {
  let services: RPCServiceTable
  let access: AccessControl?
  /// Whether who is nobody may call where every key is open to anyone.
  let admitsAnonymous: Bool
  let logger: Logger
  private let denials = DenialLog()

  init(
    services: RPCServiceTable, access: AccessControl?, admitsAnonymous: Bool, logger: Logger
  ) {
    self.services = services
    self.access = access
    self.admitsAnonymous = admitsAnonymous
    self.logger = logger
  }

  /// Runs the handler, if the service has room for one call more; whatever it throws answers this call
  /// and touches no other.
  func run(_ service: RPCService, _ request: RPCRequest) async -> RPCOutcome {
    guard service.load.enter(service.callsMax) else {
      return .fault(RPCFault(shed(service.name)))
    }
    defer { service.load.leave() }
    do {
      return .result(try await service.answer(request))
    } catch {
      return .fault(fault(for: error, of: service.name))
    }
  }

  /// Runs the handler of a stream.
  ///
  /// - Returns: what the caller is told of the error that it has thrown, if it has.
  func run(
    _ handler: RPCService.StreamHandler, _ request: RPCRequest, _ stream: RPCServerStream
  ) async -> String? {
    do {
      try await handler(request, stream)
      return nil
    } catch {
      return fault(for: error, of: request.service).message
    }
  }

  /// What the caller is told of an error that a handler has thrown.
  func fault(for error: any Error, of service: String) -> RPCFault {
    if let fault = error as? RPCFault { return checked(fault, of: service) }
    // Whoever cancels a call hears nothing of it, and can do so at will.
    if Task.isCancelled, Self.isCancellation(error) {
      logger.debug("a call was cancelled", metadata: ["service": "\(service)"])
      return RPCFault("ERR_CANCELLED: the call was cancelled")
    }
    // It may hold what others have said: a caller, or whom the handler has called.
    logger.error(
      "a handler failed",
      metadata: ["service": "\(service)", "error": "\("\(error)".quotedForLog(bytesMax: 2_000))"])
    return RPCFault("ERR_INTERNAL: the call failed")
  }

  /// A handler's fault as it is sent: it says nothing of the server, and what stands beside it is JSON.
  private func checked(_ fault: RPCFault, of service: String) -> RPCFault {
    var sent = RPCFault(fault.handlerMessage, result: fault.result)
    if let result = fault.result, !JSONText.isSendable(result.span) {
      logger.error(
        "the result beside a fault is not one JSON value in UTF-8, and is left out",
        metadata: ["service": "\(service)"])
      sent.result = nil
    }
    return sent
  }

  /// Whether a handler whose task was cancelled failed because of that: what it waited for, or the stream
  /// of its caller, broke.
  private static func isCancellation(_ error: any Error) -> Bool {
    if error is CancellationError { return true }
    guard let code = (error as? GrenacheError)?.code else { return false }
    return code == .cancelled || code == .connectionLost
  }

  /// Counts a call that is turned away.
  ///
  /// - Returns: what the caller is told.
  func shed(_ service: String) -> String {
    Counter(label: "grenache_calls_shed_total", dimensions: [("service", service)]).increment()
    return "\(RPCFault.overloadedCode): \(service)"
  }

  /// Whether a caller may call `service`, for protocols that ask at each call.
  func allows(_ service: String, by peer: PeerIdentity?) -> Bool {
    guard let access else { return true }
    var permissions = CallPermissions(access, admitsAnonymous: admitsAnonymous)
    return permissions.allow(service, by: peer)
  }

  /// Counts a call that the access policy does not allow, and logs it if it may be worth a line: the
  /// same one is logged once in a while.
  ///
  /// - Returns: what the caller is told.
  func denied(
    _ service: String, _ peer: PeerIdentity?, at address: SocketAddress, isWorthALine: Bool
  ) -> String {
    Counter(label: "grenache_denials_total", dimensions: [("right", "call")]).increment()
    if isWorthALine { denials.log(.call, on: service, by: peer, at: address, logger) }
    return "\(RPCFault.notPermittedCode): \(service)"
  }

  /// What a caller is told whose call was begun and took too long, or over HTTPS came too late.
  static func late(_ service: String) -> String { "\(RPCFault.deadlineCode): \(service)" }

  /// What a caller is told of a service that is not here.
  static func notFound(_ name: String?) -> String {
    "ERR_SERVICE_NOT_FOUND: \((name ?? "null").prefix(200))"
  }
}
