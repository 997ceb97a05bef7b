internal import Foundation

/// `Codable` values as JSON text, with errors of this package.
enum JSONCoding {
  static func encode<Value: Encodable>(_ value: Value) throws(GrenacheError) -> [UInt8] {
    do {
      return Array(try JSONEncoder().encode(value))
    } catch {
      throw GrenacheError(.invalidPayload, "the payload cannot be encoded: \(error)")
    }
  }

  static func decode<Value: Decodable>(
    _ type: Value.Type, _ text: [UInt8]
  ) throws(GrenacheError) -> Value {
    do {
      return try JSONDecoder().decode(type, from: Data(text))
    } catch {
      throw GrenacheError(.invalidReply, "the result cannot be decoded: \(error)")
    }
  }
}
