internal import GrenacheFraming
internal import GrenacheIO

/// By when a stream's answer has to begin, and when the stream is over, if at a time of its own.
struct RPCStreamDeadlines {
  let reply: MonotonicTime
  let end: MonotonicTime?

  init(reply: Duration, end: Duration?, from now: MonotonicTime) {
    self.end = end.map { now + $0 }
    self.reply = min(now + reply, self.end ?? now + reply)
  }

  /// The longest time that a worker is told (a day); what may last longer this side ends alone.
  static let toldMax = Duration.seconds(86_400)

  /// Tells the worker how long the stream may still last.
  func append(to fields: inout HTTPFields, at now: MonotonicTime) {
    guard let end, end - now <= Self.toldMax else { return }
    fields.append(RPCCallContext.timeoutField, "\(end.millisecondsLeft(at: now))")
  }
}
