public import Foundation

/// How `Codable` values become JSON text and come of it: dates, keys and data as the other side of a call
/// writes them. Existing peers know dates as ISO 8601 texts or milliseconds, where Foundation's default is
/// seconds since 2001.
///
///     var coding = RPCCoding()
///     coding.makeEncoder = {
///       let encoder = JSONEncoder()
///       encoder.dateEncodingStrategy = .iso8601
///       return encoder
///     }
public struct RPCCoding: Sendable {
  /// Makes an encoder, for each value anew.
  public var makeEncoder: @Sendable () -> JSONEncoder
  /// Makes a decoder, for each value anew.
  public var makeDecoder: @Sendable () -> JSONDecoder

  /// Foundation's defaults, unless told otherwise.
  public init(
    makeEncoder: @escaping @Sendable () -> JSONEncoder = { JSONEncoder() },
    makeDecoder: @escaping @Sendable () -> JSONDecoder = { JSONDecoder() }
  ) {
    self.makeEncoder = makeEncoder
    self.makeDecoder = makeDecoder
  }

  func encode<Value: Encodable>(_ value: Value) throws(GrenacheError) -> [UInt8] {
    do {
      return Array(try makeEncoder().encode(value))
    } catch {
      throw GrenacheError(.invalidPayload, "the payload cannot be encoded: \(error)")
    }
  }

  func decode<Value: Decodable>(
    _ type: Value.Type, _ text: [UInt8]
  ) throws(GrenacheError) -> Value {
    do {
      return try makeDecoder().decode(type, from: Data(text))
    } catch {
      throw GrenacheError(.invalidReply, "the result cannot be decoded: \(error)")
    }
  }
}
