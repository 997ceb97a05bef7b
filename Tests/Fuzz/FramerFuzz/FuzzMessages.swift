@testable import Grenache
@testable import GrenacheDHT
@testable import GrenacheFraming

/// RPC envelopes: what is taken for one splits again when it is written out of its parts.
func fuzzEnvelope(_ input: FuzzInput) {
  let message = input.bytes
  if let envelope = RPCRequestEnvelope(message.span, checksUTF8: true) {
    _ = envelope.keyString(in: message.span)
    if let payload = envelope.payload {
      require(JSONScanner.isOneValue(message.span.extracting(payload)), "a payload that is no JSON")
      var again: [UInt8] = []
      RPCRequestEnvelope.append(
        rid: 1, service: envelope.keyString(in: message.span) ?? "",
        payload: message.span.extracting(payload).copy(), to: &again)
      let second = RPCRequestEnvelope(again.span, checksUTF8: true)
      require(second?.payload?.count == payload.count, "a payload that changes its length")
    }
  }
  if let envelope = RPCReplyEnvelope(message.span, checksUTF8: true) {
    _ = envelope.ridNumber(in: message.span)
    _ = envelope.errorMessage(in: message.span)
  }
}

/// What decodes as bencode encodes again to what decodes to the same, and to nothing when its end is
/// missing.
func fuzzBencode(_ input: FuzzInput) {
  guard let value = Bencode(decoding: input.bytes.span) else { return }
  let encoded = value.encoded
  require(Bencode(decoding: encoded.span) == value, "bencode that does not come back")
  require(
    encoded.isEmpty || Bencode(decoding: Array(encoded.dropLast()).span) == nil, "a part of a value"
  )
}

/// Datagrams: whatever they hold, they decode or do not.
func fuzzKRPC(_ input: FuzzInput) {
  _ = try? KRPCMessage(decoding: input.bytes.span)
}
