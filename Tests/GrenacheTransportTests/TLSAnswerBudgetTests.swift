import Testing

@testable import GrenacheTransport

@Suite("RFC 8446 §4.6.3 what waits of TLS's own answers")
struct TLSAnswerBudgetTests {
  @Test("as much as is allowed may wait, one byte more may not, until the peer takes all")
  func limit() {
    var budget = TLSAnswerBudget()
    #expect(budget.spend(TLSAnswerBudget.bytesMax - 1) == true)
    #expect(budget.spend(0) && budget.spend(1))
    #expect(budget.spend(1) == false)
    budget.refill()
    #expect(budget.spend(TLSAnswerBudget.bytesMax) == true)
    #expect(budget.spend(1) == false)
  }
}
