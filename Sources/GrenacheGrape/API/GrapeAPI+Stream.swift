internal import GrenacheDHT
internal import GrenacheFraming
internal import GrenacheIO
internal import GrenacheTransport
internal import Logging
internal import Metrics

/// Lookups whose peers are told as they are found (`docs/wire-extensions.md`).
extension GrapeAPI {
  /// What a caller accepts who wants them so, and what the answer is.
  static let lines = "application/x-ndjson"

  /// What of a body that is too large is read, so that the connection can be kept.
  static let refusedBytesMax = 4 << 20

  /// Takes a lookup of somebody who wants its peers as they are found, and a body that may turn out to be
  /// too large; `nil` for all else.
  func streamHandler(for request: HTTPServerRequest) -> HTTPStreamHandler? {
    if request.target == "/lookup", request.fields.accept(Self.lines) {
      return { request, body, writer in await self.stream(request, body, writer) }
    }
    guard request.fields.mayExceed(configuration.payloadBytesMax) else { return nil }
    return { request, body, writer in await self.collect(request, body, writer) }
  }

  /// Answers a request whose body is not known to be small enough before it is here.
  private func collect(
    _ request: HTTPServerRequest, _ body: HTTPBody, _ writer: HTTPResponseWriter
  ) async {
    do throws(TransportError) {
      guard let bytes = try await whole(body, of: request) else {
        return _ = await writer.respond(tooLarge())
      }
      var request = request
      request.body = bytes
      _ = await writer.respond(await respond(to: request))
    } catch {
      await writer.abort()
      logger.debug(
        "a body has not come", metadata: ["by": "\(who(request))", "reason": "\(error)"])
    }
  }

  private func tooLarge() -> HTTPServerResponse {
    Self.refusals.increment()
    return bare(413, "ERR_GRAPE_PAYLOAD_SIZE")
  }

  private func stream(
    _ request: HTTPServerRequest, _ body: HTTPBody, _ writer: HTTPResponseWriter
  ) async {
    do throws(TransportError) {
      guard let bytes = try await whole(body, of: request) else {
        return _ = await writer.respond(tooLarge())
      }
      switch GrapeRequest.parse(target: request.target, body: bytes) {
      case .success(let asked):
        guard case .lookup(let key) = asked else { return }
        guard may(.lookup, key, request) else {
          return _ = await writer.respond(bare(403, Self.notPermitted))
        }
        Self.lookups.increment()
        try await stream(key, request, writer)
      case .failure(let refusal):
        Self.refusals.increment()
        _ = await writer.respond(answer(refusal))
      }
    } catch {
      // The caller is gone, or it takes too long. An end would say that these are all.
      await writer.abort()
      logger.debug(
        "a lookup was given up", metadata: ["by": "\(who(request))", "reason": "\(error)"])
    }
  }

  /// The body of a request; `nil` for one that is too large, of which so much is read that few clients
  /// lose their connection.
  private func whole(
    _ body: HTTPBody, of request: HTTPServerRequest
  ) async throws(TransportError) -> [UInt8]? {
    // Nobody waits for the end of what is not going to be read to its end.
    if request.fields.mayExceed(Self.refusedBytesMax, isCertain: true) { return nil }
    var bytes: [UInt8] = []
    var count = 0
    var parts = body.makeAsyncIterator()
    while let part = try await parts.next(isolation: #isolation) {
      count += part.count
      if count <= configuration.payloadBytesMax {
        bytes += part
      } else if count > Self.refusedBytesMax {
        return nil
      }
    }
    return count <= configuration.payloadBytesMax ? bytes : nil
  }

  private func stream(
    _ key: [UInt8], _ request: HTTPServerRequest, _ writer: HTTPResponseWriter
  ) async throws(TransportError) {
    let (known, changes) = answers.peers(of: key)
    let view = HostView(request)
    if let known, !known.isPart {
      Self.cached.increment()
      try await start(writer)
      return try await write(known.addresses(view), to: writer)
    }
    let place: RequestsInFlight.Place
    do {
      place = try requests.enter(GrapeCaller(request))
    } catch {
      return _ = await writer.respond(busy(error, request))
    }
    let start = MonotonicTime.now()
    // What is not taken is no more than `PeersFound.peersMax` addresses.
    let (batches, continuation) = AsyncStream.makeStream(of: [String].self)
    // Ended with this function, whatever way out it takes: that is how a caller who goes cancels it.
    async let lookup = Self.lookUp(
      key, for: view, within: configuration.requestTimeout, place, driver,
      telling: continuation, on: driver.loop)
    try await self.start(writer)
    for await peers in batches { try await write(peers, to: writer) }
    guard let found = await lookup else {
      throw TransportError(.timedOut, stage: .transfer, message: "the lookup has not ended")
    }
    _ = keep(found, of: key, since: changes, from: start, request)
  }

  private func start(_ writer: HTTPResponseWriter) async throws(TransportError) {
    try await writer.start(.ok, fields: [("Content-Type", Self.lines)])
  }

  /// Writes a line for each hundred of `peers`, which they are in by chance.
  private func write(
    _ peers: [String], to writer: HTTPResponseWriter
  ) async throws(TransportError) {
    var rest = peers[...]
    while !rest.isEmpty {
      let line = rest.prefix(Self.lookupResultsMax)
      rest = rest.dropFirst(line.count)
      try await writer.write(Self.array(of: line.shuffled()) + [UInt8(ascii: "\n")])
    }
  }
}

extension HTTPFields {
  /// Whether `Accept` names that media type, with whatever parameters (RFC 9110 §12.5.1).
  fileprivate func accept(_ type: String) -> Bool {
    for line in lines where line.name.equalsIgnoringCase("Accept") {
      for element in line.value.split(separator: ",") {
        let name = element.prefix { $0 != ";" }
        if name.trimmingSpaces().equalsIgnoringCase(type) { return true }
      }
    }
    return false
  }

  /// Whether the body may have more bytes than that, or has: its length may not be told beforehand
  /// (RFC 9112 §6.3).
  fileprivate func mayExceed(_ max: Int, isCertain: Bool = false) -> Bool {
    if let length = self["Content-Length"] { return Int(length).map { $0 > max } ?? !isCertain }
    return !isCertain && self["Transfer-Encoding"] != nil
  }
}
