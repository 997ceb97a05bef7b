import Testing

@testable import GrenacheFraming

/// What a parser said about some input, with bytes in place of ranges and neighbouring parts of a
/// body joined, so that two ways of cutting the same input can be compared.
enum HTTPEvent: Hashable {
  case head(method: String, target: String, status: Int, fields: [String], keepsAlive: Bool)
  /// What the head says beside that: `continue`, `upgrade`.
  case flags([String])
  case informational
  case upgraded(rest: [UInt8])
  case body([UInt8])
  case end
  case error(status: Int)
  case unfinished
}

/// Feeds `input` in pieces that end at `cuts`, as the transport does: what is not consumed stays at
/// the start of the next window.
func parseRequests(
  _ input: [UInt8], cuts: [Int] = [], limits: HTTPLimits = HTTPLimits()
) -> [HTTPEvent] {
  var parser = HTTPRequestParser(limits: limits)
  var events: [HTTPEvent] = []
  drive(input, cuts) { window, offset throws(HTTPError) in
    while true {
      let step = try parser.next(window, from: &offset)
      if step == .end { parser.startNextCycle() }
      guard record(step, parser.head, window, &events) else { return }
    }
  } failed: {
    events.append(.error(status: $0.statusHint))
  }
  return events
}

/// The same for responses to requests of `method`; the stream ends behind the input.
func parseResponses(
  _ input: [UInt8], to method: HTTPMethod = .get, cuts: [Int] = [],
  limits: HTTPLimits = HTTPLimits(), mayUpgrade: Bool = true
) -> [HTTPEvent] {
  var parser = HTTPResponseParser(limits: limits)
  parser.expectResponse(to: method, mayUpgrade: mayUpgrade)
  var events: [HTTPEvent] = []
  var isOver = false
  drive(input, cuts) { window, offset throws(HTTPError) in
    while !isOver {
      let step = try parser.next(window, from: &offset)
      if step == .upgraded {
        isOver = true
        events.append(.upgraded(rest: []))
      }
      if step == .end {
        parser.startNextCycle()
        parser.expectResponse(to: method, mayUpgrade: mayUpgrade)
      }
      guard record(step, parser.head, window, &events) else { return }
    }
  } failed: {
    isOver = true
    events.append(.error(status: $0.statusHint))
  }
  guard !isOver else { return events }
  do {
    if try parser.endOfStream() == .end { events.append(.end) }
  } catch {
    events.append(.error(status: error.statusHint))
  }
  return events
}

private func drive(
  _ input: [UInt8], _ cuts: [Int],
  _ take: (Span<UInt8>, inout Int) throws(HTTPError) -> Void, failed: (HTTPError) -> Void
) {
  var window: [UInt8] = []
  var start = 0
  for end in cuts.sorted() + [input.count] {
    window += input[start..<end]
    start = end
    var offset = 0
    do {
      try take(window.span, &offset)
    } catch {
      return failed(error)
    }
    window.removeFirst(offset)
  }
}

/// Notes a step; returns whether to go on.
private func record(
  _ step: HTTPStep, _ head: HTTPHead, _ window: Span<UInt8>, _ events: inout [HTTPEvent]
) -> Bool {
  switch step {
  case .head:
    let fields = head.ownedFields(in: window).lines.map { "\($0.name): \($0.value)" }
    events.append(
      .head(
        method: head.method.name, target: window.extracting(head.target).string(),
        status: head.status.code, fields: fields, keepsAlive: head.isKeepAlive))
    let flags =
      (head.expectsContinue ? ["continue"] : []) + (head.upgradesToWebSocket ? ["upgrade"] : [])
    if !flags.isEmpty { events.append(.flags(flags)) }
  case .body(let range):
    let bytes = window.extracting(range).copy()
    if case .body(let before)? = events.last {
      events[events.count - 1] = .body(before + bytes)
    } else {
      events.append(.body(bytes))
    }
  case .informational: events.append(.informational)
  case .end: events.append(.end)
  case .upgraded, .needBytes, .paused: return false
  }
  return true
}

/// The head of a POST to `/` with these fields beside `Host`.
func request(_ fields: String..., line: String = "POST / HTTP/1.1") -> [UInt8] {
  Array((([line, "Host: a"] + fields).joined(separator: "\r\n") + "\r\n\r\n").utf8)
}

/// The status with which requests are refused, however the input is cut; `nil` when they are not.
func status(_ input: [UInt8], limits: HTTPLimits = HTTPLimits()) -> Int? {
  let events = everyCut(of: input) { parseRequests($0, cuts: $1, limits: limits) }
  if case .error(let status)? = events.last { return status }
  return nil
}

func status(_ text: String) -> Int? { status(Array(text.utf8)) }

/// What the parser says of `text`, in one line, after a check that every way of cutting it in two and
/// byte by byte says the same:
///
///     GET /path keep continue =body . GET /next close . !400
func requests(_ text: String, limits: HTTPLimits = HTTPLimits()) -> String {
  summary(Array(text.utf8)) { parseRequests($0, cuts: $1, limits: limits) }
}

/// The same for responses: `200 keep =body .`, `1xx` for interim ones and `^` for an upgrade.
func responses(
  _ text: String, to method: HTTPMethod = .get, limits: HTTPLimits = HTTPLimits(),
  mayUpgrade: Bool = false
) -> String {
  summary(Array(text.utf8)) {
    parseResponses($0, to: method, cuts: $1, limits: limits, mayUpgrade: mayUpgrade)
  }
}

private func summary(_ input: [UInt8], _ parse: ([UInt8], [Int]) -> [HTTPEvent]) -> String {
  everyCut(of: input, parse).map(describe).joined(separator: " ")
}

/// What the parser says of `input` as a whole, after a check that in small pieces and cut in two at
/// every place, of a long one at some hundred places, it says the same.
private func everyCut(
  of input: [UInt8], _ parse: ([UInt8], [Int]) -> [HTTPEvent]
) -> [HTTPEvent] {
  let whole = parse(input, [])
  let text = String(decoding: input.prefix(1_000), as: UTF8.self)
  let step = input.count <= 2_000 ? 1 : input.count / 200
  let cuts = Array(stride(from: 1, to: input.count, by: step))
  #expect(parse(input, cuts) == whole, "in pieces of \(step): \(text)")
  for cut in cuts where parse(input, [cut]) != whole {
    Issue.record("cut at \(cut): \(text)")
  }
  return whole
}

private func describe(_ event: HTTPEvent) -> String {
  switch event {
  case .head(let method, let target, let status, _, let keepsAlive):
    "\(target.isEmpty ? "\(status)" : "\(method) \(target)") \(keepsAlive ? "keep" : "close")"
  case .flags(let flags): flags.joined(separator: " ")
  case .informational: "1xx"
  case .upgraded: "^"
  case .body(let bytes): "=\(String(decoding: bytes, as: UTF8.self))"
  case .end: "."
  case .error(let status): "!\(status)"
  case .unfinished: "…"
  }
}
