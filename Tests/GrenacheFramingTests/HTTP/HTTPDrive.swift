@testable import GrenacheFraming

/// What a parser said about some input, with bytes in place of ranges and neighbouring parts of a
/// body joined, so that two ways of cutting the same input can be compared.
enum HTTPEvent: Hashable {
  case head(method: String, target: String, status: Int, fields: [String], keepsAlive: Bool)
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
  limits: HTTPLimits = HTTPLimits()
) -> [HTTPEvent] {
  var parser = HTTPResponseParser(limits: limits)
  parser.expectResponse(to: method)
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
        parser.expectResponse(to: method)
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
