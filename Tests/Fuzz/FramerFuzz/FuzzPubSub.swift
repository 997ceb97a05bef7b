@testable import Grenache
@testable import GrenacheFraming

/// What subscribers and publishers say to each other: what is understood is the same when it is written
/// and read again.
func fuzzPubSub(_ input: FuzzInput) {
  let bytes = input.bytes
  if let subscribe = PubWire.subscribe(from: bytes) {
    let again = PubWire.subscribe(from: PubWire.subscribe(subscribe))
    require(again == subscribe, "a subscription that does not come back")
  }
  if let control = PubWire.control(from: bytes) {
    let again = PubWire.control(from: PubWire.control(control))
    require(again == control, "a control message that does not come back")
  }
  for kind in [WebSocketMessageKind.text, .binary] {
    guard let message = PubWire.message(kind, bytes.span) else { continue }
    let payload = PubWire.payload(message, number: message.number)
    require(
      PubWire.message(kind, payload.span) == message, "a message that does not come back")
  }
}

/// What a call says beside its payload, over a WebSocket and over HTTPS: the same again when it is
/// written, within its limits.
func fuzzContext(_ input: FuzzInput) {
  let bytes = input.bytes
  _ = RPCCallContext.cancelledID(bytes.span)
  let text = String(decoding: bytes, as: UTF8.self)
  check(RPCCallContext(timeout: text, metadata: text))
  if let range = RPCRequestEnvelope(bytes.span, checksUTF8: true)?.context {
    check(RPCCallContext(bytes.span, at: range))
  }
  if JSONScanner.isOneValue(bytes.span) { check(RPCCallContext(bytes.span, at: 0..<bytes.count)) }
}

private func check(_ context: RPCCallContext) {
  require(
    context.metadata.count <= RPCCallContext.metadataEntriesMax, "metadata over its limit")
  var metadata: [UInt8] = []
  RPCCallContext.append(metadata: context.metadata, to: &metadata)
  require(!metadata.contains { $0 < 0x20 || $0 == 0x7f }, "what no field may have")
  // What is escaped is longer than it was.
  guard metadata.count <= RPCCallContext.metadataBytesMax else { return }
  var written: [UInt8] = []
  RPCCallContext.append(
    timeoutMs: context.timeoutMs ?? 1, metadata: context.metadata, to: &written)
  var expected = context
  expected.timeoutMs = context.timeoutMs ?? 1
  require(
    RPCCallContext(written.span, at: 0..<written.count) == expected, "what does not come back")
}
