internal import GrenacheIO

extension LoopPromise.Outcome {
  /// What was waited for.
  ///
  /// - Parameters:
  ///   - stage: how far things had come.
  ///   - missing: what has not come by the deadline, for people.
  /// - Throws: why there is nothing.
  func value(
    _ stage: TransportError.Stage, _ missing: String, peer: SocketAddress?
  ) throws(TransportError) -> Value {
    switch self {
    case .value(let value): return value
    case .timedOut: throw TransportError(.timedOut, stage: stage, message: missing, peer: peer)
    case .cancelled: throw .cancelled(stage, peer: peer)
    }
  }
}
