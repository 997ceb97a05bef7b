internal import DequeModule
internal import GrenacheFraming
internal import GrenacheIO
internal import GrenacheTransport

/// Lookups whose workers are told as grapes find them (`docs/wire-extensions.md`).
extension LinkCore {
  /// Workers that were found so far, each once.
  private struct Found {
    var workers: [Endpoint] = []
    private var known: Set<Endpoint> = []
    let max: Int
    let tell: (Endpoint) -> Void

    init(max: Int, _ tell: @escaping (Endpoint) -> Void) {
      self.max = max
      self.tell = tell
    }

    var isFull: Bool { workers.count >= max }

    mutating func add(_ endpoints: [Endpoint]) {
      for endpoint in endpoints where workers.count < max && known.insert(endpoint).inserted {
        workers.append(endpoint)
        tell(endpoint)
      }
    }
  }

  /// Looks `service` up and tells of each worker when it is found.
  func lookUp(
    _ service: String, by deadline: MonotonicTime, on loop: isolated EventLoop,
    telling tell: @escaping (Endpoint) -> Void
  ) async throws(GrenacheError) {
    if let known = cache.endpoints(of: service, at: .now()) { return known.forEach(tell) }
    var found = Found(max: configuration.workersMax, tell)
    var round = round(by: deadline)
    while true {
      switch round.next(at: .now()) {
      case .fail(let error):
        beginElsewhere(after: round)
        throw error
      case .ask(let index, let limit):
        let grape = configuration.grapes[index]
        switch await lookUp(service, at: grape, by: limit, &found, on: loop) {
        case .answered:
          prefer(index)
          return keep(found.workers, of: service)
        case .refused(let error):
          throw error
        case .failed(let error):
          round.failed(error)
        }
      }
    }
  }

  private func lookUp(
    _ service: String, at grape: Endpoint, by deadline: MonotonicTime, _ found: inout Found,
    on loop: isolated EventLoop
  ) async -> Attempt<Void> {
    let request = HTTPClientRequest(.post, "/lookup", fields: GrapeMessages.streamedFields)
    do throws(TransportError) {
      let stream = try await client.openStream(
        request, to: Destination(grape, verification: .name(grape.host)), by: deadline, on: loop)
      // The parts of an answer have no deadline of their own.
      let end = Task {
        try? await Task.sleep(for: deadline - .now())
        await stream.close()
      }
      defer { end.cancel() }
      return try await read(service, over: stream, from: grape, by: deadline, &found)
    } catch {
      return Self.attempt(at: grape, failedWith: error)
    }
  }

  private func read(
    _ service: String, over stream: HTTPClientStream, from grape: Endpoint,
    by deadline: MonotonicTime, _ found: inout Found
  ) async throws(TransportError) -> Attempt<Void> {
    try await stream.writer.write(GrapeMessages.lookup(service, rid: UUIDText.random()))
    await stream.writer.finish()
    let head = try await stream.response(by: deadline)
    let isInLines =
      head.status == .ok && head.fields.has(GrapeMessages.lines, in: "Content-Type")
    var answer = GrapeAnswer(isInLines: isInLines)
    var parts = stream.body.makeAsyncIterator()
    while let part = try await parts.next(isolation: #isolation) {
      guard answer.append(part) else {
        return .failed(GrenacheError(.grapeRefused, "grape \(grape) answers without an end"))
      }
      while let line = answer.nextLine() {
        if let problem = read(line, &found) { return problem }
        if found.isFull { return .answered(()) }
      }
    }
    let rest = answer.rest
    guard (200..<300).contains(head.status.code) else {
      return Self.attempt(
        at: grape, "/lookup", answered: head.status.code, rest, isRepeatable: true)
    }
    if isInLines, rest.isEmpty { return .answered(()) }
    // A grape that tells nothing meanwhile answers with all of them.
    return read(rest, &found) ?? .answered(())
  }

  /// Adds the workers of a list; gives what is wrong with one that is none.
  private func read(_ list: [UInt8], _ found: inout Found) -> Attempt<Void>? {
    do throws(GrenacheError) {
      found.add(try GrapeMessages.endpoints(in: list, max: configuration.workersMax))
      return nil
    } catch {
      return GrapeMessages.isError(list) ? .refused(error) : .failed(error)
    }
  }
}

/// An answer as it comes: lines of which each is a list, or one list.
struct GrapeAnswer {
  /// The longest line, and the longest list: a hundred addresses have 5 KiB.
  static let lineBytesMax = 64 << 10
  /// The most lines: a grape names a thousand workers, in as many lines at most.
  static let linesMax = 1_000

  /// What has come and is no whole line.
  private(set) var rest: [UInt8] = []
  private let isInLines: Bool
  /// Whole lines, without their ends.
  private var lines: Deque<[UInt8]> = []
  private var lineCount = 0

  init(isInLines: Bool) {
    self.isInLines = isInLines
  }

  /// Takes a part of the answer; returns whether it is short enough so far, and has not too many lines.
  mutating func append(_ part: [UInt8]) -> Bool {
    for byte in part {
      if isInLines, byte == UInt8(ascii: "\n") {
        guard lineCount < Self.linesMax else { return false }
        lineCount += 1
        lines.append(rest)
        rest = []
      } else if rest.count < Self.lineBytesMax {
        rest.append(byte)
      } else {
        return false
      }
    }
    return true
  }

  /// The next whole line, the first that came first.
  mutating func nextLine() -> [UInt8]? { lines.popFirst() }
}
