@testable import GrenacheFraming

/// What a parser said, so that two ways of cutting the input compare by `==`.
struct EventLog: Equatable {
  private(set) var bytes: [UInt8] = []
  private var isInBody = false

  mutating func note(_ kind: Character, _ text: [UInt8] = []) {
    isInBody = false
    bytes.append(contentsOf: String(kind).utf8)
    bytes += text
    bytes.append(0)
  }

  /// Neighbouring parts of a body count as one.
  mutating func noteBody(_ part: [UInt8]) {
    if !isInBody { bytes.append(contentsOf: "=".utf8) }
    isInBody = true
    bytes += part
  }
}

/// Feeds `input`, cut in two at `cut`, as a transport does.
func drive(_ input: [UInt8], cut: Int, _ take: (Span<UInt8>, inout Int) -> Bool) {
  var window: [UInt8] = []
  for piece in [input[..<cut], input[cut...]] {
    window += piece
    var offset = 0
    guard take(window.span, &offset) else { return }
    require(offset <= window.count, "consumed more than there was")
    window.removeFirst(offset)
  }
}

func fuzzHTTPRequest(_ input: FuzzInput) {
  func parse(_ cut: Int) -> EventLog {
    var parser = HTTPRequestParser(limits: fuzzLimits)
    var log = EventLog()
    drive(input.bytes, cut: cut) { window, offset in
      do throws(HTTPError) {
        while true {
          let step = try parser.next(window, from: &offset)
          if step == .head { log.note("t", Array(parser.head.originTarget(in: window).utf8)) }
          guard note(step, parser.head, window, &log) else { return true }
          if step == .end { parser.startNextCycle() }
        }
      } catch {
        log.note("!", [UInt8(truncatingIfNeeded: error.statusHint)])
        return false
      }
    }
    return log
  }
  require(parse(0) == parse(input.cut), "a cut at \(input.cut) makes a difference")
}

func fuzzHTTPResponse(_ input: FuzzInput) {
  func parse(_ cut: Int) -> EventLog {
    var parser = HTTPResponseParser(limits: fuzzLimits)
    let method = input.mode & 1 == 0 ? HTTPMethod.get : .head
    let mayUpgrade = input.mode & 2 != 0
    parser.expectResponse(to: method, mayUpgrade: mayUpgrade)
    var log = EventLog()
    var isOver = false
    drive(input.bytes, cut: cut) { window, offset in
      do throws(HTTPError) {
        while true {
          let step = try parser.next(window, from: &offset)
          isOver = step == .upgraded
          guard note(step, parser.head, window, &log) else { return !isOver }
          if step == .end {
            parser.startNextCycle()
            parser.expectResponse(to: method, mayUpgrade: mayUpgrade)
          }
        }
      } catch {
        log.note("!", [UInt8(truncatingIfNeeded: error.statusHint)])
        isOver = true
        return false
      }
    }
    if !isOver { log.note((try? parser.endOfStream()) == .end ? "." : "?") }
    return log
  }
  require(parse(0) == parse(input.cut), "a cut at \(input.cut) makes a difference")
}

func fuzzChunked(_ input: FuzzInput) {
  func parse(_ cut: Int) -> EventLog {
    var decoder = HTTPBodyDecoder(.chunked, limits: fuzzLimits)
    var log = EventLog()
    var total = 0
    drive(input.bytes, cut: cut) { window, offset in
      do throws(HTTPError) {
        while true {
          switch try decoder.next(window, from: &offset) {
          case .data(let range):
            total += range.count
            log.noteBody(window.extracting(range).copy())
          case .end:
            log.note(".")
            return false
          case .needBytes: return true
          }
        }
      } catch {
        log.note("!", [UInt8(truncatingIfNeeded: error.statusHint)])
        return false
      }
    }
    require(total <= fuzzLimits.bodyBytesMax, "a body over its limit")
    return log
  }
  require(parse(0) == parse(input.cut), "a cut at \(input.cut) makes a difference")
}

private let fuzzLimits = HTTPLimits(
  headBytesMax: 1_000, fieldsMax: 10, lineBytesMax: 300, bodyBytesMax: 500, chunkLineBytesMax: 40,
  trailerBytesMax: 100)

/// Notes a step; returns whether to go on.
private func note(
  _ step: HTTPStep, _ head: HTTPHead, _ window: Span<UInt8>, _ log: inout EventLog
) -> Bool {
  switch step {
  case .head:
    log.note("h", Array("\(head.method) \(head.status) \(head.isKeepAlive)".utf8))
    for field in head.ownedFields(in: window).lines {
      log.note("f", Array("\(field.name):\(field.value)".utf8))
    }
  case .body(let range): log.noteBody(window.extracting(range).copy())
  case .informational: log.note("i")
  case .end: log.note(".")
  case .upgraded:
    log.note("^")
    return false
  case .needBytes, .paused: return false
  }
  return true
}
