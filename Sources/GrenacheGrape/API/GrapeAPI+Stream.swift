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

  /// Takes a lookup of somebody who wants its peers as they are found; `nil` for all else.
  func streamHandler(for request: HTTPServerRequest) -> HTTPStreamHandler? {
    guard request.target == "/lookup", request.fields.accept(Self.lines) else { return nil }
    return { request, body, writer in await self.stream(request, body, writer) }
  }

  private func stream(
    _ request: HTTPServerRequest, _ body: HTTPBody, _ writer: HTTPResponseWriter
  ) async {
    do throws(TransportError) {
      guard let bytes = try await whole(body) else {
        Self.refusals.increment()
        return _ = await writer.respond(bare(413, "ERR_GRAPE_PAYLOAD_SIZE"))
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

  /// The body of a request; `nil` for one that is too large.
  private func whole(_ body: HTTPBody) async throws(TransportError) -> [UInt8]? {
    var bytes: [UInt8] = []
    var parts = body.makeAsyncIterator()
    while let part = try await parts.next(isolation: #isolation) {
      bytes += part
      guard bytes.count <= configuration.payloadBytesMax else { return nil }
    }
    return bytes
  }

  private func stream(
    _ key: [UInt8], _ request: HTTPServerRequest, _ writer: HTTPResponseWriter
  ) async throws(TransportError) {
    let (known, changes) = answers.peers(of: key)
    if let known {
      Self.cached.increment()
      try await start(writer)
      return try await write(known, to: writer)
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
      key, within: configuration.requestTimeout, place, driver, telling: continuation,
      on: driver.loop)
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
}
