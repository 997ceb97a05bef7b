internal import GrenacheFraming
internal import GrenacheIO
internal import GrenacheTransport

/// Answers calls over HTTPS as existing peers do: 200 with an envelope, errors of a call included.
struct RPCHTTPResponder: Sendable {
  let dispatcher: RPCDispatcher
  /// What a compressed body may grow to.
  let bodyBytesMax: Int
  /// What a reply may have before it is compressed.
  let replyBytesMax: Int

  func respond(to request: HTTPServerRequest) async -> HTTPServerResponse {
    let head: RPCHTTPHead
    do {
      head = try RPCHTTPHead(request.fields)
    } catch {
      return Self.refusal(.internalServerError, RPCHTTPHead.Refusal.body)
    }
    let call: RPCHTTPCall
    do {
      call = try RPCHTTPCall(head, body: request.body, bodyBytesMax: bodyBytesMax)
    } catch {
      return Self.refusal(error.status, error.message)
    }
    let outcome = await answer(call, head, request).bounded(by: replyBytesMax, rid: call.rid)
    var response = response(Self.reply(call.rid, outcome), isGzip: head.wantsGzip)
    if case .fault = outcome, response.status == .ok {
      response.fields.append(RPCReplyField.name, RPCReplyField.error)
    }
    return response
  }

  private func answer(
    _ call: RPCHTTPCall, _ head: RPCHTTPHead, _ request: HTTPServerRequest
  ) async -> RPCOutcome {
    guard let service = call.service.flatMap({ dispatcher.services.service(named: $0) }) else {
      return .fault(RPCFault(RPCDispatcher.notFound(call.service)))
    }
    if let denial = denial(service, request) { return .fault(RPCFault(denial)) }
    let call = rpcRequest(service, head, request, payload: call.payload)
    guard let deadline = call.deadline, let loop = Self.loop(#isolation) else {
      return await dispatcher.run(service, call)
    }
    return await Self.run(service, call, by: deadline, dispatcher, on: loop)
  }

  /// The loop of the connection, on which requests are answered.
  private static func loop(_ actor: (any Actor)?) -> EventLoop? { actor as? EventLoop }

  /// Runs the handler, whose task is cancelled at the deadline.
  private static func run(
    _ service: RPCService, _ call: RPCRequest, by deadline: MonotonicTime,
    _ dispatcher: RPCDispatcher, on loop: isolated EventLoop
  ) async -> RPCOutcome {
    let late = RPCOutcome.fault(RPCFault(RPCDispatcher.late(service.name)))
    guard deadline > .now() else { return late }
    let limit = RPCTaskDeadline(deadline, on: loop)
    let outcome = await dispatcher.run(service, call)
    limit.end(on: loop)
    return limit.hasPassed ? late : outcome
  }

  /// The handler that takes `request` as a stream, if it is one, or its service takes no others.
  func streamHandler(for request: HTTPServerRequest) -> HTTPStreamHandler? {
    guard let head = try? RPCHTTPHead(request.fields), let named = head.request,
      let service = named.service.flatMap({ dispatcher.services.service(named: $0) }),
      let handler = service.streamHandler, head.isStream || !service.takesCalls
    else { return nil }
    let bytesMax = replyBytesMax
    if let denial = denial(service, request) {
      return { _, body, writer in
        await RPCServerStream(
          RPCByteStream(body), writer, rid: named.rid, replyBytesMax: bytesMax
        ).fail(denial)
      }
    }
    let call = rpcRequest(service, head, request, payload: Array("null".utf8))
    return { [dispatcher] _, body, writer in
      let stream = RPCServerStream(
        RPCByteStream(body), writer, rid: named.rid, replyBytesMax: bytesMax)
      guard service.load.enter(service.callsMax) else {
        return await stream.fail(dispatcher.shed(service.name))
      }
      defer { service.load.leave() }
      let fault = await Self.run(handler, call, stream, dispatcher, on: writer.loop)
      if let fault { await stream.fail(fault) }
    }
  }

  /// Runs the handler of a stream, whose task is cancelled at the deadline, if there is one: what it has
  /// sent by then is not the whole, whatever it makes of that.
  ///
  /// - Returns: what the caller is told in place of an answer.
  private static func run(
    _ handler: RPCService.StreamHandler, _ call: RPCRequest, _ stream: RPCServerStream,
    _ dispatcher: RPCDispatcher, on loop: isolated EventLoop
  ) async -> String? {
    guard let deadline = call.deadline else { return await dispatcher.run(handler, call, stream) }
    let late = RPCDispatcher.late(call.service)
    guard deadline > .now() else { return late }
    let limit = RPCTaskDeadline(deadline, on: loop)
    let fault = await dispatcher.run(handler, call, stream)
    limit.end(on: loop)
    return limit.hasPassed ? late : fault
  }

  private func denial(_ service: RPCService, _ request: HTTPServerRequest) -> String? {
    guard !dispatcher.allows(service.name, by: request.identity) else { return nil }
    return dispatcher.denied(
      service.name, request.identity, at: request.remoteAddress, isWorthALine: true)
  }

  private func rpcRequest(
    _ service: RPCService, _ head: RPCHTTPHead, _ request: HTTPServerRequest, payload: [UInt8]
  ) -> RPCRequest {
    let deadline = head.context.timeoutMs.map { MonotonicTime.now().adding(milliseconds: $0) }
    return RPCRequest(
      service: service.name, payload: payload, identity: request.identity,
      remoteAddress: request.remoteAddress, deadline: deadline,
      extras: .init(
        action: head.action, actionArguments: head.actionArguments,
        metadata: head.context.metadata))
  }

  static func reply(_ rid: [UInt8], _ outcome: RPCOutcome) -> [UInt8] {
    var body: [UInt8] = []
    switch outcome {
    case .result(let result): RPCReplyEnvelope.append(rid: rid, result: result, to: &body)
    case .fault(let fault): RPCReplyEnvelope.append(rid: rid, fault, to: &body)
    }
    return body
  }

  /// A call that asked to be answered compressed is; no field says so, since none ever did.
  private func response(_ body: [UInt8], isGzip: Bool) -> HTTPServerResponse {
    guard isGzip else { return HTTPServerResponse(.ok, body: body) }
    do {
      return HTTPServerResponse(.ok, body: try Gzip.encode(body.span))
    } catch {
      return Self.refusal(HTTPStatus(code: error.statusHint), error.message)
    }
  }

  private static func refusal(_ status: HTTPStatus, _ text: String) -> HTTPServerResponse {
    HTTPServerResponse(status, body: Array(text.utf8))
  }
}
