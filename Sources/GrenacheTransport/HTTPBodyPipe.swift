internal import GrenacheFraming
internal import GrenacheIO

/// Who fills a body's pipe, and is told when there is room in it again.
protocol HTTPBodySource: AnyObject {
  func bodyHasRoom(on loop: isolated EventLoop)
}

/// A body on its way in: what has come and has not been taken yet, confined to its loop.
///
/// It holds `bytesMax` and what one read brought beyond that; then its source stops reading, and the
/// peer meets TCP's flow control.
final class HTTPBodyPipe {
  private enum End {
    case complete
    case failed(TransportError)
  }

  weak var source: (any HTTPBodySource)?
  private let bytesMax: Int
  private var buffered: [UInt8] = []
  private var end: End?
  private var reader: LoopPromise<Void>?

  init(bytesMax: Int) {
    self.bytesMax = bytesMax
  }

  var isFull: Bool { buffered.count >= bytesMax }
  /// Whether nothing more will come.
  var hasEnded: Bool { end != nil }
  /// Whether the whole body has come.
  var isComplete: Bool {
    if case .complete = end { true } else { false }
  }

  func receive(_ bytes: Span<UInt8>, on loop: isolated EventLoop) {
    guard end == nil else { return }
    bytes.append(to: &buffered)
    wake(on: loop)
  }

  /// The whole of the body has come.
  func complete(on loop: isolated EventLoop) {
    guard end == nil else { return }
    end = .complete
    wake(on: loop)
  }

  /// The rest will not come. What has come is still handed over.
  func fail(_ error: TransportError, on loop: isolated EventLoop) {
    guard end == nil else { return }
    end = .failed(error)
    wake(on: loop)
  }

  /// Everything that has come since the last call, or `nil` at the end; one reader at a time.
  func next(on loop: isolated EventLoop) async throws(TransportError) -> [UInt8]? {
    while buffered.isEmpty {
      switch end {
      case .complete: return nil
      case .failed(let error): throw error
      case nil:
        // Made here: between the look at what has come and the wait there must be no `await`.
        let promise = LoopPromise<Void>()
        reader = promise
        try await wait(for: promise, on: loop)
      }
    }
    let wasFull = isFull
    var bytes: [UInt8] = []
    swap(&bytes, &buffered)
    if wasFull { source?.bodyHasRoom(on: loop) }
    return bytes
  }

  private func wait(
    for promise: LoopPromise<Void>, on loop: isolated EventLoop
  ) async throws(TransportError) {
    // The deadlines are those of the connection, whose timers end the wait.
    if case .cancelled = await promise.wait(until: .distantFuture, on: loop) {
      throw .cancelled(.transfer, peer: nil)
    }
  }

  private func wake(on loop: isolated EventLoop) {
    let reader = self.reader
    self.reader = nil
    reader?.fulfil((), on: loop)
  }
}

/// The bytes of a body as they come. What is not taken is not read from the peer.
package struct HTTPBody: AsyncSequence, Sendable {
  package typealias Element = [UInt8]
  package typealias Failure = TransportError

  private let pipe: LoopBound<HTTPBodyPipe>

  init(_ pipe: HTTPBodyPipe, on loop: isolated EventLoop) {
    self.pipe = LoopBound(pipe, on: loop)
  }

  package struct Iterator: AsyncIteratorProtocol, Sendable {
    fileprivate let pipe: LoopBound<HTTPBodyPipe>

    /// The next part; `nil` once the whole body has come.
    ///
    /// - Throws: `TransportError` when the rest will not come: a body that was cut short never ends
    ///   as if it were whole.
    package mutating func next(
      isolation actor: isolated (any Actor)?
    ) async throws(TransportError) -> [UInt8]? {
      try await HTTPBody.next(pipe, on: pipe.loop)
    }
  }

  package func makeAsyncIterator() -> Iterator { Iterator(pipe: pipe) }

  private static func next(
    _ pipe: LoopBound<HTTPBodyPipe>, on loop: isolated EventLoop
  ) async throws(TransportError) -> [UInt8]? {
    try await pipe.get(on: loop).next(on: loop)
  }
}

extension MonotonicTime {
  /// For waits that something else ends.
  static let distantFuture = MonotonicTime(nanoseconds: .max / 2)
}
