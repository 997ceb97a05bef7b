internal import GrenacheFraming
internal import GrenacheIO

/// A body on its way out, confined to its loop: writing waits while the peer does not take it.
final class HTTPBodyOutput {
  /// What is put into one chunk, and how much is written before others of the loop get their turn.
  static let chunkBytes = 64 << 10

  private enum State {
    case open(ByteStream)
    case finished
    case failed(TransportError)
  }
  private var state: State
  private let isChunked: Bool
  private let isSilent: Bool
  private var waiting: [LoopPromise<Void>] = []
  /// The bytes that have been written.
  private(set) var written = 0

  /// - Parameter isSilent: whether the body is not sent at all, as in the answer to HEAD.
  init(_ stream: ByteStream, isChunked: Bool, isSilent: Bool = false) {
    state = .open(stream)
    self.isChunked = isChunked
    self.isSilent = isSilent
  }

  var isOpen: Bool {
    if case .open = state { true } else { false }
  }

  /// Sends `bytes`, behind what was written before, as the peer takes them.
  func write(_ bytes: [UInt8], on loop: isolated EventLoop) async throws(TransportError) {
    var start = 0
    while start < bytes.count {
      let stream = try await room(on: loop)
      let end = min(start + Self.chunkBytes, bytes.count)
      if !isSilent {
        let part = bytes.span.extracting(start..<end)
        if isChunked {
          stream.output.appendHTTPChunk(part)
        } else {
          part.append(to: &stream.output)
        }
        stream.outputAppended(on: loop)
      }
      written += end - start
      start = end
      // A peer that takes everything at once must not keep the loop from the others.
      if start < bytes.count { await Task.yield() }
    }
  }

  /// Ends the body.
  func finish(on loop: isolated EventLoop) {
    guard case .open(let stream) = state else { return }
    state = .finished
    drained(on: loop)  // whoever still waits to write learns that it is too late
    guard isChunked, !isSilent else { return }
    stream.output.appendHTTPLastChunk()
    stream.outputAppended(on: loop)
  }

  func fail(_ error: TransportError, on loop: isolated EventLoop) {
    if case .open = state { state = .failed(error) }
    drained(on: loop)
  }

  /// More output is welcome, or none ever will be.
  func drained(on loop: isolated EventLoop) {
    let waiting = self.waiting
    self.waiting = []
    for promise in waiting { promise.fulfil((), on: loop) }
  }

  private func room(on loop: isolated EventLoop) async throws(TransportError) -> ByteStream {
    while true {
      if Task.isCancelled { throw .cancelled(.transfer, peer: nil) }
      switch state {
      case .finished:
        throw TransportError(
          .invalidRequest, stage: .transfer, message: "the body has been ended already")
      case .failed(let error):
        throw error
      case .open(let stream):
        if !stream.isOutputFull { return stream }
      }
      let promise = LoopPromise<Void>()
      waiting.append(promise)
      if case .cancelled = await promise.wait(until: .distantFuture, on: loop) {
        throw .cancelled(.transfer, peer: nil)
      }
    }
  }
}

/// Where the parts of a body are written.
package struct HTTPBodyWriter: Sendable {
  private let output: LoopBound<HTTPBodyOutput>

  init(_ output: HTTPBodyOutput, on loop: isolated EventLoop) {
    self.output = LoopBound(output, on: loop)
  }

  /// Sends `bytes`; waits while the peer does not take what was written before.
  package func write(_ bytes: [UInt8]) async throws(TransportError) {
    try await Self.write(bytes, output, on: output.loop)
  }

  /// Ends the body; nothing can be written any more.
  package func finish() async {
    let output = output
    await output.loop.run { loop in output.get(on: loop).finish(on: loop) }
  }

  private static func write(
    _ bytes: [UInt8], _ output: LoopBound<HTTPBodyOutput>, on loop: isolated EventLoop
  ) async throws(TransportError) {
    try await output.get(on: loop).write(bytes, on: loop)
  }
}
